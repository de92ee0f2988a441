//! Memory that only a start or a burst needed goes back to the kernel once the process is idle again.
//!
//! Half of what an idle engine held was code and constants that ran once (its own pages, in the page cache whoever maps them), and after
//! a `kubectl apply` a third of its heap was free but kept by the allocator.
#![allow(unsafe_code)] // malloc_trim, madvise and getrusage have no safe wrapper.

use std::time::Duration;

/// How often the process looks at itself.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Less CPU time than this between two looks is idle; more means that something was in use.
const IDLE_CPU: Duration = Duration::from_millis(20);

/// Runs until dropped.
pub(crate) async fn give_back_when_idle() {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let (mut last, mut worked) = (Duration::ZERO, true);
    loop {
        looks.tick().await;
        let now = cpu_time();
        let busy = now.saturating_sub(last) > IDLE_CPU;
        if worked && !busy {
            // The heap's locks are held for as long as this takes: a millisecond or so.
            let _ = tokio::task::spawn_blocking(give_back).await;
            last = cpu_time();
        } else {
            last = now;
        }
        worked = busy;
    }
}

/// User and system time of this process so far.
fn cpu_time() -> Duration {
    // SAFETY: the kernel fills one rusage, for which all zeroes is valid.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    let of = |time: libc::timeval| Duration::from_secs(time.tv_sec.unsigned_abs()) + Duration::from_micros(time.tv_usec.unsigned_abs());
    of(usage.ru_utime) + of(usage.ru_stime)
}

fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes an integer and locks what it touches.
    unsafe {
        libc::malloc_trim(0);
    }
    unsafe extern "C" {
        // The linker's names for the first and the last byte of what is mapped read-only from the file: constants and code.
        static __executable_start: u8;
        static etext: u8;
    }
    const PAGE: usize = 4096;
    let (first, last) = (&raw const __executable_start as usize, &raw const etext as usize);
    let (first, last) = (first.next_multiple_of(PAGE), last / PAGE * PAGE);
    if first < last {
        // SAFETY: these pages are a file's, never written to; they read the same when they come back.
        unsafe { libc::madvise(first as *mut libc::c_void, last - first, libc::MADV_DONTNEED) };
    }
}
