//! The expressions of a rule, as attributes of netlink (`include/uapi/linux/netfilter/nf_tables.h`). All of them use one
//! register: it is loaded, and then compared or looked up.

use std::ffi::CString;

use gracefully_linux::netlink::Writer;

/// What is known about a packet besides its bytes.
#[derive(Clone, Copy)]
pub(super) enum Meta {
    /// `NFT_META_MARK`: a number that others may give it.
    Mark = 3,
    /// `NFT_META_IIFTYPE`: the kind of interface by which it has come.
    InputInterfaceType = 8,
    /// `NFT_META_NFPROTO`
    NetworkProtocol = 15,
    /// `NFT_META_L4PROTO`
    TransportProtocol = 16,
}

/// The headers of a packet: `NFT_PAYLOAD_NETWORK_HEADER`, `NFT_PAYLOAD_TRANSPORT_HEADER`.
#[derive(Clone, Copy)]
pub(super) enum Header {
    Network = 1,
    Transport = 2,
}

/// The register that every expression of ours uses (`NFT_REG_1`).
pub(super) const REGISTER: u32 = 1;

pub(super) fn meta(to: &mut Writer, key: Meta) {
    expression(to, "meta", |to| {
        number(to, 1, REGISTER);
        number(to, 2, key as u32);
    });
}

pub(super) fn payload(to: &mut Writer, header: Header, offset: u32, length: u32) {
    expression(to, "payload", |to| {
        number(to, 1, REGISTER);
        number(to, 2, header as u32);
        number(to, 3, offset);
        number(to, 4, length);
    });
}

/// Whose the destination is, as the routing table says.
pub(super) fn destination_type(to: &mut Writer) {
    expression(to, "fib", |to| {
        number(to, 1, REGISTER);
        // `NFT_FIB_RESULT_ADDRTYPE`, `NFTA_FIB_F_DADDR`
        number(to, 2, 3);
        number(to, 3, 2);
    });
}

pub(super) fn bitwise_and(to: &mut Writer, mask: u8) {
    expression(to, "bitwise", |to| {
        number(to, 1, REGISTER);
        number(to, 2, REGISTER);
        number(to, 3, 1);
        to.nested(4, |to| to.attribute(1, |to| to.put(&[mask])));
        to.nested(5, |to| to.attribute(1, |to| to.put(&[0])));
    });
}

pub(super) fn compare(to: &mut Writer, with: &[u8]) {
    comparison(to, 0, with);
}

pub(super) fn compare_not(to: &mut Writer, with: &[u8]) {
    comparison(to, 1, with);
}

/// `NFT_CMP_EQ` is 0, `NFT_CMP_NEQ` is 1.
fn comparison(to: &mut Writer, operation: u32, with: &[u8]) {
    expression(to, "cmp", |to| {
        number(to, 1, REGISTER);
        number(to, 2, operation);
        to.nested(3, |to| to.attribute(1, |to| to.put(with)));
    });
}

pub(super) fn expression(to: &mut Writer, name: &str, data: impl FnOnce(&mut Writer)) {
    to.nested(1, |to| {
        string(to, 1, name);
        to.nested(2, data);
    });
}

pub(super) fn string(to: &mut Writer, kind: u16, text: &str) {
    let text = CString::new(text).expect("our names have no zero byte");
    to.attribute(kind, |to| to.put(text.as_bytes_with_nul()));
}

/// Netfilter's numbers are big-endian.
pub(super) fn number(to: &mut Writer, kind: u16, number: u32) {
    to.attribute(kind, |to| to.put(&number.to_be_bytes()));
}
