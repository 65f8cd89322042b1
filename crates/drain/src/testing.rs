//! A network namespace for each test, in which nothing of the host can be disturbed.

use gracefully_linux::netlink::{ACK, REQUEST, Socket, Writer};

/// Runs a test on a thread of its own in a new network namespace whose loopback interface is up. Without root the test
/// is skipped, visibly.
pub(crate) fn in_new_netns(test: impl FnOnce() + Send + 'static) {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: a network namespace of its own needs root");
        return;
    }
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a network namespace");
        loopback_up();
        test();
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// `ip link set lo up`: `RTM_NEWLINK` with `struct ifinfomsg` (rtnetlink(7)). Loopback is always interface 1.
fn loopback_up() {
    let mut writer = Writer::default();
    writer.message(16, REQUEST | ACK, 1, |message| {
        message.put(&[0; 4]);
        message.put(&1_i32.to_ne_bytes());
        // Of the flags, IFF_UP: its value, and that it is to be changed.
        message.put(&1_u32.to_ne_bytes());
        message.put(&1_u32.to_ne_bytes());
    });
    let mut socket = Socket::open(None).expect("a socket");
    socket.acknowledged(writer.as_bytes(), 1).expect("the loopback interface");
}

/// Looks again until `fact` holds; a test that waits in vain fails.
pub(crate) fn eventually(what: &str, mut fact: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
    while !fact() {
        assert!(std::time::Instant::now() < end, "never: {what}");
        std::thread::yield_now();
    }
}
