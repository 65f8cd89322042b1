//! Acts on the connections of a program that is about to stop, so that no request is cut and no client turned away.
//!
//! The program knows nothing of this. What it does not do itself is done from outside, by the kernel on our behalf:
//!
//! * `watch`: looks at its connections, one dump of the socket table after the other. Which of them has a request under
//!   way is judged by [`gracefully_linux::connection`].
//! * `tap`: hears what is said on the wire; where that is HTTP/1, `talk` knows which byte ends an answer.
//! * `hold`: keeps new connections waiting for the restarted program; or refuses them, if there will be none.
//! * `freeze`: closes connections on which nothing is under way, without cutting a request that begins at that moment.
//! * `judge`: says afterwards whose request was cut all the same.
//!
//! [`Drain`] is the whole for one program: a thread that is told what to do and tells what it sees. The crate knows no engine; a
//! [`Target`] says where the program is and by which ways its clients come.
//!
//! **Everything fails open.** Nothing here must outlive us, however we end: firewall rules belong to a socket of ours, with which the
//! kernel removes them (`nftables`); a queue without us lets everything pass (`queue`); a shut valve opens by itself
//! after 100 ms (`valve`). So no guard process is needed, and none could be killed together with us.
//!
//! Looking needs no privilege in our own network namespace, `CAP_SYS_ADMIN` for another one, and `CAP_SYS_PTRACE` to see the files
//! of others. Listening needs `CAP_NET_RAW`, holding and refusing `CAP_NET_ADMIN`, closing `CAP_BPF`. What is missing is said as
//! a [`Limit`], and the rest is done.

mod agent;
mod budget;
mod clock;
mod freeze;
mod hold;
mod judge;
mod limits;
mod nftables;
mod owners;
mod queue;
mod survey;
mod talk;
mod tap;
mod target;
#[cfg(test)]
mod testing;
mod valve;
mod watch;

pub use crate::agent::{Drain, Notice};
pub use crate::limits::Limit;
pub use crate::survey::Survey;
pub use crate::target::{Published, Target};
