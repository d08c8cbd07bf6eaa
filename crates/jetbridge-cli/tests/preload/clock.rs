//! A wall clock that somebody sets: preloaded into one process, it moves what that process reads
//! by `CLOCK_STEP_SECONDS` as soon as the file `CLOCK_STEP_FILE` exists. The monotonic clock stays.
//! Compiled by the test that uses it.

use std::ffi::{c_char, c_int, c_long};

#[repr(C)]
pub struct Time {
    seconds: i64,
    nanoseconds: c_long,
}

unsafe extern "C" {
    fn access(path: *const c_char, mode: c_int) -> c_int;
    fn atol(text: *const c_char) -> c_long;
    fn getenv(name: *const c_char) -> *const c_char;
    fn syscall(number: c_long, ...) -> c_long;
}

#[cfg(target_arch = "x86_64")]
const CLOCK_GETTIME: c_long = 228;
#[cfg(target_arch = "aarch64")]
const CLOCK_GETTIME: c_long = 113;
const CLOCK_REALTIME: c_int = 0;

/// # Safety
/// As the C library's function of that name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut Time) -> c_int {
    unsafe {
        let result = syscall(CLOCK_GETTIME, c_long::from(clock), time);
        let file = getenv(c"CLOCK_STEP_FILE".as_ptr());
        let by = getenv(c"CLOCK_STEP_SECONDS".as_ptr());
        let is_set = !file.is_null() && !by.is_null() && access(file, 0) == 0;
        if result == 0 && clock == CLOCK_REALTIME && is_set {
            (*time).seconds += atol(by);
        }
        result as c_int
    }
}
