//! What ZooKeeper and its clients say to each other, as far as a registry needs it.
//!
//! Everything is in frames: a length, and so many bytes. Numbers have their highest byte first; before bytes, texts and lists stands
//! how long they are, or -1 if there is nothing (`BinaryOutputArchive.java` of jute). The records are those of `zookeeper.jute` of 3.8,
//! the numbers are in `ZooDefs.java`, `CreateMode.java` and `KeeperException.java`. What later versions may have put behind a record is
//! not looked at, as their own clients do.
//!
//! Nothing that comes is believed: what is not there is [`Malformed`].

use std::fmt;
use std::time::Duration;

/// The numbers of what is no answer to a request: somebody has changed a node, a ping was heard, and who we are.
pub(super) const NOTIFICATION: i32 = -1;
pub(super) const PING: i32 = -2;
pub(super) const AUTH: i32 = -4;

/// Longer frames are not for us; servers have 1 MiB unless somebody has set it.
const FRAME_AT_MOST: usize = 4 << 20;

/// Whatever its version is.
const ANY: i32 = -1;

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Request<'a> {
    /// Makes a node.
    Create { path: &'a str, data: &'a [u8], kind: Kind, acls: &'a [Acl] },
    /// Removes one.
    Delete { path: &'a str },
    /// Is there one?
    Exists { path: &'a str },
    /// What it says.
    GetData { path: &'a str },
    /// Has it say something else.
    SetData { path: &'a str, data: &'a [u8] },
    /// Ends the session.
    Close,
}

/// What becomes of a node.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// It goes with its session.
    Ephemeral,
    /// It goes when there is nothing below it any more.
    Container,
}

/// Who may do what with a node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acl {
    rights: i32,
    scheme: &'static str,
    id: &'static str,
}

impl Acl {
    /// Whoever makes it may do everything.
    pub(super) const OURS: Self = Self { rights: 31, scheme: "auth", id: "" };
    /// Anyone may read it.
    pub(super) const READ: Self = Self { rights: 1, ..Self::ANYONE };
    /// Anyone may do everything.
    pub(super) const ANYONE: Self = Self { rights: 31, scheme: "world", id: "anyone" };
}

impl Request<'_> {
    /// With the number that its answer will have.
    pub(super) fn frame(&self, xid: i32) -> Vec<u8> {
        let mut out = Out::new();
        out.int(xid);
        out.int(match self {
            // For want of a record of its own it has another number.
            Self::Create { kind: Kind::Container, .. } => 19,
            Self::Create { .. } => 1,
            Self::Delete { .. } => 2,
            Self::Exists { .. } => 3,
            Self::GetData { .. } => 4,
            Self::SetData { .. } => 5,
            Self::Close => -11,
        });
        match *self {
            Self::Create { path, data, kind, acls } => {
                out.text(path);
                out.bytes(data);
                out.length(acls.len());
                for acl in acls {
                    out.int(acl.rights);
                    out.text(acl.scheme);
                    out.text(acl.id);
                }
                out.int(match kind {
                    Kind::Ephemeral => 1,
                    Kind::Container => 4,
                });
            }
            Self::Delete { path } => {
                out.text(path);
                out.int(ANY);
            }
            Self::Exists { path } | Self::GetData { path } => {
                out.text(path);
                // Nobody is to tell us of changes.
                out.bool(false);
            }
            Self::SetData { path, data } => {
                out.text(path);
                out.bytes(data);
                out.int(ANY);
            }
            Self::Close => {}
        }
        out.frame()
    }
}

/// The first frame: begins a session with this time-out, or goes on with one.
///
/// We take every server, also one that has seen less than we have. It catches up before it begins a session, or makes or removes a node;
/// and what it finds too late costs another look, or making a node that is there already.
pub(super) fn connect(timeout: Duration, session: Option<&Session>) -> Vec<u8> {
    let (id, password) = session.map_or((0, &[0; 16][..]), |session| (session.id, &session.password));
    let mut out = Out::new();
    // The version of the protocol.
    out.int(0);
    // The last change that we have seen.
    out.long(0);
    out.int(i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX));
    out.long(id);
    out.bytes(password);
    // A server that cannot write is of no use.
    out.bool(false);
    out.frame()
}

/// Who we are: the second frame.
pub(super) fn auth(scheme: &str, words: &str) -> Vec<u8> {
    let mut out = Out::new();
    out.int(AUTH);
    out.int(100);
    // Nobody knows what this was for.
    out.int(0);
    out.text(scheme);
    out.bytes(words.as_bytes());
    out.frame()
}

/// Who has both may go on with it.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Session {
    pub(super) id: i64,
    password: Vec<u8>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The answer to [`connect`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    pub(super) timeout: Duration,
    pub(super) session: Session,
}

impl Granted {
    /// `None`: the session has run out.
    pub(super) fn read(frame: &[u8]) -> Result<Option<Self>, Malformed> {
        let mut from = In(frame);
        from.int()?;
        let timeout = from.int()?;
        let session = Session { id: from.long()?, password: from.bytes()?.to_vec() };
        let timeout = u64::try_from(timeout).ok().filter(|timeout| *timeout > 0);
        Ok(timeout.map(|timeout| Self { timeout: Duration::from_millis(timeout), session }))
    }
}

/// Any other answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply<'a> {
    /// The number of the request.
    pub(super) xid: i32,
    /// The record that was asked for, or why there is none.
    pub(super) record: Result<&'a [u8], Code>,
}

impl<'a> Reply<'a> {
    pub(super) fn read(frame: &'a [u8]) -> Result<Self, Malformed> {
        let mut from = In(frame);
        let xid = from.int()?;
        // The last change that the server has seen.
        from.long()?;
        let record = match from.int()? {
            0 => Ok(from.0),
            code => Err(Code(code)),
        };
        Ok(Self { xid, record })
    }
}

/// The session that has made the node, from the answer to [`Request::Exists`]; 0 if it is not an ephemeral one.
pub(super) fn owner(record: &[u8]) -> Result<i64, Malformed> {
    In(record).stat()
}

/// What a node says, and its owner: from the answer to [`Request::GetData`].
pub(super) fn data(record: &[u8]) -> Result<(&[u8], i64), Malformed> {
    let mut from = In(record);
    Ok((from.bytes()?, from.stat()?))
}

/// How long the frame is that begins so.
pub(super) fn length(of: [u8; 4]) -> Result<usize, Malformed> {
    let length = usize::try_from(i32::from_be_bytes(of)).map_err(|_| Malformed)?;
    if length > FRAME_AT_MOST { Err(Malformed) } else { Ok(length) }
}

/// Why a server does not do what was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Code(pub(super) i32);

impl Code {
    pub(super) const UNIMPLEMENTED: Self = Self(-6);
    pub(super) const NO_NODE: Self = Self(-101);
    pub(super) const NO_AUTH: Self = Self(-102);
    pub(super) const NO_CHILDREN_FOR_EPHEMERALS: Self = Self(-108);
    pub(super) const NODE_EXISTS: Self = Self(-110);
    pub(super) const NOT_EMPTY: Self = Self(-111);
    pub(super) const SESSION_EXPIRED: Self = Self(-112);
    pub(super) const INVALID_ACL: Self = Self(-114);
    pub(super) const AUTH_FAILED: Self = Self(-115);
    pub(super) const SESSION_MOVED: Self = Self(-118);
    pub(super) const SASL_REQUIRED: Self = Self(-124);
    pub(super) const QUOTA_EXCEEDED: Self = Self(-125);
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match *self {
            Self::UNIMPLEMENTED => "it does not know the request; only 3.5 and later do",
            Self::NO_NODE => "a node is missing",
            Self::NO_AUTH => "not authorized",
            Self::NO_CHILDREN_FOR_EPHEMERALS => {
                "the node above is an ephemeral one, which may have none below"
            }
            Self::NODE_EXISTS => "another node is in its place",
            Self::NOT_EMPTY => "the node in its place has others below",
            Self::SESSION_EXPIRED => "the session has expired",
            Self::INVALID_ACL => "invalid access control list",
            Self::AUTH_FAILED => "authentication failed",
            Self::SESSION_MOVED => "the session goes on at another server",
            Self::SASL_REQUIRED => "it wants SASL",
            Self::QUOTA_EXCEEDED => "a quota is exceeded",
            Self(code) => return write!(f, "it answers with the error {code}"),
        })
    }
}

/// What came is not what the protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it does not speak ZooKeeper's protocol")
    }
}

/// A frame that is being written.
struct Out(Vec<u8>);

impl Out {
    fn new() -> Self {
        // The length will be here.
        Self(vec![0; 4])
    }

    fn bool(&mut self, value: bool) {
        self.0.push(value.into());
    }

    fn int(&mut self, value: i32) {
        self.0.extend(value.to_be_bytes());
    }

    fn long(&mut self, value: i64) {
        self.0.extend(value.to_be_bytes());
    }

    /// No server takes what is longer than a number says.
    fn length(&mut self, length: usize) {
        self.int(i32::try_from(length).unwrap_or(i32::MAX));
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.length(bytes.len());
        self.0.extend(bytes);
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn frame(mut self) -> Vec<u8> {
        let length = i32::try_from(self.0.len() - 4).unwrap_or(i32::MAX);
        self.0[..4].copy_from_slice(&length.to_be_bytes());
        self.0
    }
}

/// What is left of a frame that is being read.
struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (array, left) = self.0.split_first_chunk().ok_or(Malformed)?;
        self.0 = left;
        Ok(*array)
    }

    fn int(&mut self) -> Result<i32, Malformed> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    fn long(&mut self) -> Result<i64, Malformed> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = match self.int()? {
            -1 => 0,
            length => usize::try_from(length).map_err(|_| Malformed)?,
        };
        let (bytes, left) = self.0.split_at_checked(length).ok_or(Malformed)?;
        self.0 = left;
        Ok(bytes)
    }

    /// `Stat`, of which only the owner is for us.
    fn stat(&mut self) -> Result<i64, Malformed> {
        // The changes that have made it and have changed it last, and when that was; how often its data, its children and its ACLs
        // were changed.
        self.array::<{ 4 * 8 + 3 * 4 }>()?;
        let owner = self.long()?;
        // How long its data is, how many children it has, and which change has changed them last.
        self.array::<{ 2 * 4 + 8 }>()?;
        Ok(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What ZooKeeper's own client (3.8.0) has said to its server, and what that has answered.
    const CONNECT: &str = "0000002d 00000000 0000000000000000 00000fa0 0000000000000000 00000010 00000000000000000000000000000000 00";
    const CONNECTED: &str = "00000000 00000fa0 010001b7d95f0000 00000010 53813839e4d35820e9db614acd40acf5 00";
    const EXPIRED: &str = "00000000 00000000 0000000000000000 00000010 00000000000000000000000000000000 00";
    const AUTHENTICATE: &str =
        "00000023 fffffffc 00000064 00000000 00000006 646967657374 00000009 77653a736563726574";
    const AUTHENTICATED: &str = "fffffffc 0000000000000000 00000000";
    const CREATE: &str = "00000042 00000001 00000001 00000002 2f61 00000001 78 00000002 0000001f 00000004 61757468 00000000 \
        00000001 00000005 776f726c64 00000006 616e796f6e65 00000001";
    const CREATED: &str = "00000001 0000000000000002 00000000 00000002 2f61";
    /// But for the data: where it says that there is none, we say that it is empty, as Curator does.
    const CREATE_CONTAINER: &str = "00000031 00000002 00000013 00000002 2f63 00000000 00000001 0000001f 00000005 776f726c64 00000006 616e796f6e65 00000004";
    const EXISTS: &str = "0000000f 00000003 00000003 00000002 2f61 00";
    const EXISTING: &str = "00000003 0000000000000003 00000000 0000000000000002 0000000000000002 000001a228c265ef 000001a228c265ef \
        00000000 00000000 00000000 010001b7d95f0000 00000001 00000000 0000000000000002";
    const MISSING: &str = "00000004 0000000000000003 ffffff9b";
    const GET: &str = "0000000f 00000005 00000004 00000002 2f61 00";
    const GOT: &str = "00000005 0000000000000003 00000000 00000001 78 0000000000000002 0000000000000002 000001a228c265ef \
        000001a228c265ef 00000000 00000000 00000000 010001b7d95f0000 00000001 00000000 0000000000000002";
    const GOT_NOTHING: &str = "0000000a 0000000000000007 00000000 ffffffff 0000000000000003 0000000000000003 000001a228c2661c \
        000001a228c2661c 00000000 00000000 00000000 0000000000000000 00000000 00000000 0000000000000003";
    const SET: &str = "00000018 00000006 00000005 00000002 2f61 00000002 797a ffffffff";
    const DELETE: &str = "00000012 00000008 00000002 00000002 2f61 ffffffff";
    const CHANGED: &str = "ffffffff ffffffffffffffff 00000000 00000003 00000003 00000002 2f63";
    const CLOSE: &str = "00000008 0000000c fffffff5";

    const OWNER: i64 = 0x0100_01b7_d95f_0000;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
        digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
    }

    fn record(frame: &[u8]) -> Result<&[u8], Malformed> {
        Ok(Reply::read(frame)?.record.unwrap_or_default())
    }

    #[test]
    fn it_says_what_zookeepers_own_client_says() {
        let (path, ours) = ("/a", [Acl::OURS, Acl::READ]);
        let request = |request: Request<'_>, xid| request.frame(xid);
        for (said, theirs) in [
            (connect(Duration::from_secs(4), None), CONNECT),
            (auth("digest", "we:secret"), AUTHENTICATE),
            (request(Request::Create { path, data: b"x", kind: Kind::Ephemeral, acls: &ours }, 1), CREATE),
            (
                request(
                    Request::Create { path: "/c", data: b"", kind: Kind::Container, acls: &[Acl::ANYONE] },
                    2,
                ),
                CREATE_CONTAINER,
            ),
            (request(Request::Exists { path }, 3), EXISTS),
            (request(Request::GetData { path }, 5), GET),
            (request(Request::SetData { path, data: b"yz" }, 6), SET),
            (request(Request::Delete { path }, 8), DELETE),
            (request(Request::Close, 12), CLOSE),
        ] {
            assert_eq!(said, bytes(theirs), "{theirs}");
        }
    }

    #[test]
    fn it_understands_what_a_server_says() {
        let granted = Granted::read(&bytes(CONNECTED)).unwrap().unwrap();
        assert_eq!((granted.timeout, granted.session.id), (Duration::from_secs(4), OWNER));
        assert_eq!(format!("{:?}", granted.session), format!("Session {{ id: {OWNER}, .. }}"), "no password");
        let again = connect(granted.timeout, Some(&granted.session));
        assert_eq!(
            again[20..48],
            bytes("010001b7d95f0000 00000010 53813839e4d35820e9db614acd40acf5"),
            "the session"
        );
        assert_eq!(Granted::read(&bytes(EXPIRED)), Ok(None));
        for (frame, xid, error) in [
            (AUTHENTICATED, AUTH, None),
            (CREATED, 1, None),
            (MISSING, 4, Some(Code::NO_NODE)),
            (CHANGED, NOTIFICATION, None),
        ] {
            let frame = bytes(frame);
            let reply = Reply::read(&frame).unwrap();
            assert_eq!((reply.xid, reply.record.err()), (xid, error));
        }
        assert_eq!(owner(record(&bytes(EXISTING)).unwrap()), Ok(OWNER));
        assert_eq!(data(record(&bytes(GOT)).unwrap()), Ok((&b"x"[..], OWNER)));
        assert_eq!(data(record(&bytes(GOT_NOTHING)).unwrap()), Ok((&b""[..], 0)));
    }

    /// Everything that can be read from it.
    fn read(frame: &[u8]) -> [Result<(), Malformed>; 4] {
        [
            Granted::read(frame).map(drop),
            Reply::read(frame).map(drop),
            record(frame).and_then(owner).map(drop),
            record(frame).and_then(data).map(drop),
        ]
    }

    #[test]
    fn what_is_cut_off_or_changed_is_no_harm() {
        for (frame, at, may_lack) in [
            // Old servers do not say whether they can only read.
            (CONNECTED, 0, 1),
            (EXPIRED, 0, 1),
            (MISSING, 1, 0),
            (EXISTING, 2, 0),
            (GOT, 3, 0),
            (GOT_NOTHING, 3, 0),
        ] {
            let frame = bytes(frame);
            assert_eq!(read(&frame)[at], Ok(()));
            for length in 0..frame.len() {
                let whole = length + may_lack >= frame.len();
                assert_eq!(read(&frame[..length])[at].is_ok(), whole, "{length} of {frame:?}");
            }
            for at in 0..frame.len() {
                for byte in 0..=u8::MAX {
                    let mut changed = frame.clone();
                    changed[at] = byte;
                    let _: [_; 4] = read(&changed);
                }
            }
        }
        let longer = [bytes(GOT), vec![0; 8]].concat();
        assert_eq!(data(record(&longer).unwrap()), Ok((&b"x"[..], OWNER)), "from a later version");
    }

    #[test]
    fn lengths_are_not_believed() {
        assert_eq!(length([0, 0, 1, 2]), Ok(258));
        for wrong in [*b"HTTP", [0xff; 4], [0x80, 0, 0, 0], [0, 0x40, 0, 1]] {
            assert_eq!(length(wrong), Err(Malformed), "{wrong:?}");
        }
        for wrong in ["fffffffe", "7fffffff", "80000000", "00000001"] {
            assert_eq!(In(&bytes(wrong)).bytes(), Err(Malformed), "{wrong}");
        }
        assert_eq!(In(&bytes("ffffffff")).bytes(), Ok(&b""[..]));
    }

    #[test]
    fn every_error_has_words() {
        assert_eq!(Code::NO_AUTH.to_string(), "not authorized");
        assert_eq!(Code(-127).to_string(), "it answers with the error -127");
    }
}
