//! The memory allocator, and giving back what it keeps.

// The unit tests count allocations instead.
#[cfg(not(test))]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Gives memory that was freed back to the system. The allocator does so by itself only while it is used, so that a
/// node that has become idle would keep what its busiest moment needed.
pub(crate) fn give_back() {
    // SAFETY: it may be called at any time from any thread.
    unsafe { libmimalloc_sys::mi_collect(true) };
}
