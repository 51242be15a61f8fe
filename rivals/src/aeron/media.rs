//! Aeron's media driver and clients. Nothing of them is ever closed: they end with their process.

use std::ffi::{CStr, CString, c_int};
use std::ptr::null_mut;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use rusteron_media_driver::bindings as c;

/// No silence is taken for a death: clients say nothing while they measure.
const FOR_EVER: Duration = Duration::from_secs(3600);
/// How long opening may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Before a message in its frame: aeron_data_header_t.
const HEADER_BYTES: usize = 32;
/// The largest message that a frame of the largest size holds, as a power of two.
pub(super) const PAYLOAD_MAX: usize = 32 << 10;
/// Frames are this large where messages fit.
const FRAME_BYTES: usize = 1408;
/// A third of the log: the larger, the more memory it walks through; the smaller, the more often the driver has to
/// give room back.
const TERM_BYTES: usize = 16 << 20;
/// The stream of channel 0.
const FIRST_STREAM: i32 = 1001;

/// What Aeron says of its last failure.
pub(super) fn failure() -> anyhow::Error {
    // SAFETY: the text is this thread's, and lives until its next call.
    let text = unsafe { CStr::from_ptr(c::aeron_errmsg()) };
    anyhow::anyhow!("{}", text.to_string_lossy().trim_end())
}

fn checked(code: c_int) -> Result<c_int> {
    if code < 0 { Err(failure()) } else { Ok(code) }
}

/// A media driver in this process.
#[derive(Clone, Copy)]
pub(super) struct Driver(*mut c::aeron_driver_t);

// SAFETY: it is used by one thread at a time, the one that it was sent to.
unsafe impl Send for Driver {}

impl Driver {
    pub(super) fn start(directory: &CStr, has_thread: bool) -> Result<Self> {
        let mode = match has_thread {
            true => c::aeron_threading_mode_enum::AERON_THREADING_MODE_SHARED,
            false => c::aeron_threading_mode_enum::AERON_THREADING_MODE_INVOKER,
        };
        let (mut context, mut driver) = (null_mut(), null_mut());
        let for_ever = FOR_EVER.as_nanos() as u64;
        // SAFETY: each call gets what an earlier one made; the context lives as long as the driver.
        unsafe {
            checked(c::aeron_driver_context_init(&mut context))?;
            checked(c::aeron_driver_context_set_dir(context, directory.as_ptr()))?;
            checked(c::aeron_driver_context_set_threading_mode(context, mode))?;
            checked(c::aeron_driver_context_set_client_liveness_timeout_ns(context, for_ever))?;
            checked(c::aeron_driver_context_set_publication_unblock_timeout_ns(context, 2 * for_ever))?;
            // The log's pages are there before they are used.
            checked(c::aeron_driver_context_set_term_buffer_sparse_file(context, false))?;
            checked(c::aeron_driver_init(&mut driver, context))?;
            checked(c::aeron_driver_start(driver, true))?;
        }
        Ok(Self(driver))
    }

    /// Does what there is to do.
    pub(super) fn work(self) -> Result<()> {
        // SAFETY: the driver lives as long as the process.
        checked(unsafe { c::aeron_driver_main_do_work(self.0) }).map(drop)
    }

    /// Does it on a thread of its own, on any core, idling as `aeronmd` does.
    pub(super) fn work_on_a_thread(self) -> Result<()> {
        let mut any = CpuSet::new();
        (0..CpuSet::count()).try_for_each(|cpu| any.set(cpu))?;
        std::thread::Builder::new().name("aeronmd".to_owned()).spawn(move || {
            let driver = self;
            if let Err(error) = sched_setaffinity(Pid::from_raw(0), &any) {
                eprintln!("Aeron's media driver stays on the core of role 0: {error}");
            }
            loop {
                // SAFETY: the driver is this thread's from now on.
                unsafe {
                    c::aeron_driver_main_idle_strategy(driver.0, c::aeron_driver_main_do_work(driver.0))
                };
            }
        })?;
        Ok(())
    }
}

/// A client of the media driver, without a thread of its own.
pub(super) struct Client {
    client: *mut c::aeron_t,
    driver: Option<Driver>,
}

impl Client {
    /// Waits for the driver. A driver that is given is worked for here.
    pub(super) fn connect(directory: &CStr, driver: Option<Driver>) -> Result<Self> {
        driver.map(Driver::work).transpose()?;
        let (mut context, mut client) = (null_mut(), null_mut());
        // SAFETY: each call gets what an earlier one made; the context lives as long as the client.
        unsafe {
            checked(c::aeron_context_init(&mut context))?;
            checked(c::aeron_context_set_dir(context, directory.as_ptr()))?;
            checked(c::aeron_context_set_use_conductor_agent_invoker(context, true))?;
            checked(c::aeron_context_set_pre_touch_mapped_memory(context, true))?;
            checked(c::aeron_init(&mut client, context))?;
            checked(c::aeron_start(client))?;
        }
        Ok(Self { client, driver })
    }

    /// Works until it is so, for as long as opening may take.
    pub(super) fn wait_until(&self, what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
        self.wait_for(what, || Ok(is_so().then_some(())))
    }

    fn wait_for<T>(&self, what: &str, mut attempt: impl FnMut() -> Result<Option<T>>) -> Result<T> {
        let end = Instant::now() + PATIENCE;
        loop {
            self.driver.map(Driver::work).transpose()?;
            // SAFETY: the client lives as long as the process.
            checked(unsafe { c::aeron_main_do_work(self.client) })?;
            if let Some(done) = attempt()? {
                return Ok(done);
            }
            ensure!(Instant::now() < end, "not so after {PATIENCE:?}: {what}");
            std::thread::yield_now();
        }
    }

    /// An end that sends. The one of an exclusive publication is the only one.
    pub(super) fn publish(&self, channel: usize, size: usize, is_exclusive: bool) -> Result<Publication> {
        let (uri, stream) = (uri(size)?, stream(channel));
        let what = "the publication is there";
        if is_exclusive {
            let mut asked = null_mut();
            // SAFETY: the client lives, and copies the text.
            checked(unsafe {
                c::aeron_async_add_exclusive_publication(&mut asked, self.client, uri.as_ptr(), stream)
            })?;
            self.wait_for(what, || {
                let mut made = null_mut();
                // SAFETY: it was asked for above, and is asked about until it is there.
                let is_made =
                    checked(unsafe { c::aeron_async_add_exclusive_publication_poll(&mut made, asked) })? > 0;
                Ok(is_made.then_some(Publication::Exclusive(made)))
            })
        } else {
            let mut asked = null_mut();
            // SAFETY: as above.
            checked(unsafe {
                c::aeron_async_add_publication(&mut asked, self.client, uri.as_ptr(), stream)
            })?;
            self.wait_for(what, || {
                let mut made = null_mut();
                // SAFETY: as above.
                let is_made = checked(unsafe { c::aeron_async_add_publication_poll(&mut made, asked) })? > 0;
                Ok(is_made.then_some(Publication::Shared(made)))
            })
        }
    }

    /// An end that receives.
    pub(super) fn subscribe(&self, channel: usize, size: usize) -> Result<Subscription> {
        let (uri, mut asked) = (uri(size)?, null_mut());
        // SAFETY: the client lives, and copies the text; there are no handlers.
        checked(unsafe {
            c::aeron_async_add_subscription(
                &mut asked,
                self.client,
                uri.as_ptr(),
                stream(channel),
                None,
                null_mut(),
                None,
                null_mut(),
            )
        })?;
        self.wait_for("the subscription is there", || {
            let mut made = null_mut();
            // SAFETY: it was asked for above, and is asked about until it is there.
            let is_made = checked(unsafe { c::aeron_async_add_subscription_poll(&mut made, asked) })? > 0;
            Ok(is_made.then_some(Subscription(made)))
        })
    }
}

/// A frame holds a message whole.
fn uri(size: usize) -> Result<CString> {
    let frame = FRAME_BYTES.max(size + HEADER_BYTES);
    Ok(CString::new(format!("aeron:ipc?term-length={TERM_BYTES}|mtu={frame}"))?)
}

fn stream(channel: usize) -> i32 {
    FIRST_STREAM + channel as i32
}

/// An end that sends.
pub(super) enum Publication {
    Shared(*mut c::aeron_publication_t),
    Exclusive(*mut c::aeron_exclusive_publication_t),
}

impl Publication {
    pub(super) fn is_connected(&self) -> bool {
        // SAFETY: the publication lives as long as the process.
        unsafe {
            match *self {
                Self::Shared(publication) => c::aeron_publication_is_connected(publication),
                Self::Exclusive(publication) => c::aeron_exclusive_publication_is_connected(publication),
            }
        }
    }

    /// Room for a message in the log; none where it has to be given back first.
    #[inline]
    pub(super) fn claim(&mut self, size: usize) -> Result<Option<Claim>> {
        let mut claim = c::aeron_buffer_claim_t { frame_header: null_mut(), data: null_mut(), length: 0 };
        // SAFETY: the publication lives as long as the process.
        let position = unsafe {
            match *self {
                Self::Shared(publication) => c::aeron_publication_try_claim(publication, size, &mut claim),
                Self::Exclusive(publication) => {
                    c::aeron_exclusive_publication_try_claim(publication, size, &mut claim)
                }
            }
        };
        match position {
            0.. => Ok(Some(Claim(claim))),
            position => refused(position),
        }
    }
}

#[cold]
fn refused(position: i64) -> Result<Option<Claim>> {
    match position as i32 {
        c::AERON_PUBLICATION_BACK_PRESSURED | c::AERON_PUBLICATION_ADMIN_ACTION => Ok(None),
        c::AERON_PUBLICATION_ERROR => Err(failure()),
        code => bail!("Aeron refuses a message: code {code}"),
    }
}

/// Claimed room.
pub(super) struct Claim(c::aeron_buffer_claim_t);

impl Claim {
    /// Writes the message, and publishes it.
    #[inline]
    pub(super) fn commit(mut self, message: &[u8]) -> Result<()> {
        assert!(message.len() <= self.0.length, "as much as was claimed");
        // SAFETY: the room is this claim's until it is committed, and large enough.
        let code = unsafe {
            std::ptr::copy_nonoverlapping(message.as_ptr(), self.0.data, message.len());
            c::aeron_buffer_claim_commit(&mut self.0)
        };
        checked(code).map(drop)
    }
}

/// An end that receives.
pub(super) struct Subscription(*mut c::aeron_subscription_t);

impl Subscription {
    /// From how many logs it receives.
    pub(super) fn senders(&self) -> usize {
        // SAFETY: the subscription lives as long as the process.
        unsafe { c::aeron_subscription_image_count(self.0) }.max(0) as usize
    }

    /// Shows what is there, up to `most` messages, and gives how many.
    #[inline]
    pub(super) fn poll<F: FnMut(&[u8])>(&mut self, show: &mut F, most: usize) -> Result<usize> {
        unsafe extern "C-unwind" fn on_fragment<F: FnMut(&[u8])>(
            show: *mut std::ffi::c_void,
            message: *const u8,
            len: usize,
            _: *mut c::aeron_header_t,
        ) {
            // SAFETY: `show` is what `poll` was given, for the time of its call; the message lies in the log, where
            // nobody writes until the subscription's position, which it advances afterwards, allows it.
            let (show, message) =
                unsafe { (&mut *show.cast::<F>(), std::slice::from_raw_parts(message, len)) };
            show(message);
        }
        // SAFETY: the subscription lives as long as the process, `show` as long as the call.
        let count = unsafe {
            c::aeron_subscription_poll(self.0, Some(on_fragment::<F>), std::ptr::from_mut(show).cast(), most)
        };
        checked(count).map(|count| count as usize)
    }
}
