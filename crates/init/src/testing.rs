//! What several tests use.

/// Numbers below the one that is asked for, as if at random, the same in every run.
pub(crate) fn numbers() -> impl FnMut(usize) -> usize {
    let mut random = 1_u64;
    move |below| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        usize::try_from(random >> 33).unwrap() % below
    }
}
