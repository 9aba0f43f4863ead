//! Hyperscan through its C API: databases, scratch, block and stream scans, saved databases. The only file with
//! `unsafe`. Vectorscan is the same API on other processors.
//!
//! Why a binding of our own: of the API's eighty functions we need fifteen, and the crate that binds it has not
//! been released for years; these lines can be read in one sitting.
//!
//! What makes it sound:
//! - A [`Database`] is never changed once it is made, and the library lets any number of threads scan with one.
//! - A [`Scratch`] is borrowed mutably for a scan, so no two scans share one, and it has been sized for every
//!   database that [`Scratch::new`] was told of. The library checks that too, and refuses.
//! - A [`Stream`] holds on to its database.
//! - What the library calls back (`note`) writes into a vector and cannot panic.
//! - A saved database is trusted: see [`Database::load`].

#![expect(unsafe_code, reason = "the one door to a C library")]

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::fmt;
use std::ptr;
use std::sync::Arc;

use super::matcher::Mode;

/// The parts of `hs.h` that are used. Names and types are those of the library.
mod ffi {
    use super::{c_char, c_int, c_uint, c_ulonglong, c_void};

    pub(super) const HS_SUCCESS: c_int = 0;
    pub(super) const HS_SCAN_TERMINATED: c_int = -3;
    pub(super) const HS_FLAG_CASELESS: c_uint = 1;
    pub(super) const HS_FLAG_SINGLEMATCH: c_uint = 8;
    pub(super) const HS_MODE_BLOCK: c_uint = 1;
    pub(super) const HS_MODE_STREAM: c_uint = 2;

    #[repr(C)]
    pub(super) struct Database {
        opaque: [u8; 0],
    }
    #[repr(C)]
    pub(super) struct Scratch {
        opaque: [u8; 0],
    }
    #[repr(C)]
    pub(super) struct Stream {
        opaque: [u8; 0],
    }
    #[repr(C)]
    pub(super) struct CompileError {
        pub(super) message: *mut c_char,
        pub(super) expression: c_int,
    }
    #[repr(C)]
    #[derive(Debug, Default)]
    pub(super) struct Platform {
        pub(super) tune: c_uint,
        pub(super) cpu_features: c_ulonglong,
        pub(super) reserved1: c_ulonglong,
        pub(super) reserved2: c_ulonglong,
    }
    pub(super) type OnMatch =
        unsafe extern "C" fn(c_uint, c_ulonglong, c_ulonglong, c_uint, *mut c_void) -> c_int;

    unsafe extern "C" {
        pub(super) fn hs_compile_multi(
            expressions: *const *const c_char,
            flags: *const c_uint,
            ids: *const c_uint,
            elements: c_uint,
            mode: c_uint,
            platform: *const Platform,
            database: *mut *mut Database,
            error: *mut *mut CompileError,
        ) -> c_int;
        pub(super) fn hs_free_compile_error(error: *mut CompileError) -> c_int;
        pub(super) fn hs_free_database(database: *mut Database) -> c_int;
        pub(super) fn hs_serialize_database(
            database: *const Database,
            bytes: *mut *mut c_char,
            length: *mut usize,
        ) -> c_int;
        pub(super) fn hs_deserialize_database(
            bytes: *const c_char,
            length: usize,
            database: *mut *mut Database,
        ) -> c_int;
        pub(super) fn hs_database_size(database: *const Database, size: *mut usize) -> c_int;
        pub(super) fn hs_populate_platform(platform: *mut Platform) -> c_int;
        pub(super) fn hs_valid_platform() -> c_int;
        pub(super) fn hs_version() -> *const c_char;
        pub(super) fn hs_alloc_scratch(database: *const Database, scratch: *mut *mut Scratch) -> c_int;
        pub(super) fn hs_free_scratch(scratch: *mut Scratch) -> c_int;
        pub(super) fn hs_scan(
            database: *const Database,
            data: *const c_char,
            length: c_uint,
            flags: c_uint,
            scratch: *mut Scratch,
            on_match: Option<OnMatch>,
            context: *mut c_void,
        ) -> c_int;
        pub(super) fn hs_open_stream(
            database: *const Database,
            flags: c_uint,
            stream: *mut *mut Stream,
        ) -> c_int;
        pub(super) fn hs_scan_stream(
            stream: *mut Stream,
            data: *const c_char,
            length: c_uint,
            flags: c_uint,
            scratch: *mut Scratch,
            on_match: Option<OnMatch>,
            context: *mut c_void,
        ) -> c_int;
        pub(super) fn hs_close_stream(
            stream: *mut Stream,
            scratch: *mut Scratch,
            on_match: Option<OnMatch>,
            context: *mut c_void,
        ) -> c_int;
        /// `hs_free_*` of compiled databases and serialised bytes come from the allocator set for them, which is
        /// malloc: nobody here sets another.
        pub(super) fn free(pointer: *mut c_void);
    }
}

/// What a database is asked to find.
#[derive(Debug, Clone)]
pub(crate) struct Expression {
    /// In the library's syntax, over bytes.
    pub(crate) text: String,
    /// What a match is reported as.
    pub(crate) number: u32,
    /// Whether ASCII letters match in either case.
    pub(crate) caseless: bool,
    /// Whether only its first end is reported, in a text or a stream.
    pub(crate) once: bool,
}

/// Why something could not be made.
#[derive(Debug)]
pub(crate) enum Error {
    /// This processor is too old (below SSSE3).
    Processor,
    /// An expression, as its index, or all together, cannot be compiled.
    Compile { expression: Option<usize>, message: String },
    /// The library's error code.
    Code(c_int),
}

impl fmt::Display for Error {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Processor => out.write_str("this processor lacks SSSE3, which Hyperscan needs"),
            Self::Compile { message, .. } => write!(out, "Hyperscan: {message}"),
            Self::Code(code) => write!(out, "Hyperscan: error {code}"),
        }
    }
}

fn done(code: c_int) -> Result<(), Error> {
    if code == ffi::HS_SUCCESS { Ok(()) } else { Err(Error::Code(code)) }
}

/// Names the library's version and this processor: a database saved under another name does not fit here.
pub(crate) fn platform() -> String {
    let mut platform = ffi::Platform::default();
    // SAFETY: the pointer is to a value of the library's layout; the version is a constant string.
    let version = unsafe {
        // A failure leaves zeros, which name no processor; such a name is still one of its own.
        ffi::hs_populate_platform(&raw mut platform);
        CStr::from_ptr(ffi::hs_version())
    };
    format!("{} {} {:x}", version.to_string_lossy(), platform.tune, platform.cpu_features)
}

/// Compiled expressions.
pub(crate) struct Database {
    pointer: *mut ffi::Database,
}

// SAFETY: a database is read-only after it is made; the library documents that threads may share it.
unsafe impl Send for Database {}
// SAFETY: as above.
unsafe impl Sync for Database {}

impl Database {
    /// # Errors
    /// The expression at fault, or that this processor will not do.
    pub(crate) fn compile(expressions: &[Expression], mode: Mode) -> Result<Self, Error> {
        // SAFETY: takes nothing and touches nothing of ours.
        if unsafe { ffi::hs_valid_platform() } != ffi::HS_SUCCESS {
            return Err(Error::Processor);
        }
        let mut texts = Vec::with_capacity(expressions.len());
        for (index, expression) in expressions.iter().enumerate() {
            let text = CString::new(expression.text.as_str())
                .map_err(|error| Error::Compile { expression: Some(index), message: error.to_string() })?;
            texts.push(text);
        }
        let pointers: Vec<*const c_char> = texts.iter().map(|text| text.as_ptr()).collect();
        let flags: Vec<c_uint> = expressions.iter().map(flags).collect();
        let numbers: Vec<c_uint> = expressions.iter().map(|expression| expression.number).collect();
        let count = c_uint::try_from(expressions.len()).map_err(|_| Error::Code(0))?;
        let mode = match mode {
            Mode::Block => ffi::HS_MODE_BLOCK,
            Mode::Stream => ffi::HS_MODE_STREAM,
        };
        let mut pointer = ptr::null_mut();
        let mut error = ptr::null_mut();
        // SAFETY: the three arrays have `count` elements and live until the call returns, as do the strings;
        // without a platform the library compiles for this one; both results are written before it returns.
        let code = unsafe {
            ffi::hs_compile_multi(
                pointers.as_ptr(),
                flags.as_ptr(),
                numbers.as_ptr(),
                count,
                mode,
                ptr::null(),
                &raw mut pointer,
                &raw mut error,
            )
        };
        if code == ffi::HS_SUCCESS {
            return Ok(Self { pointer });
        }
        if error.is_null() {
            return Err(Error::Code(code));
        }
        // SAFETY: on failure the library has set `error` to a value that is ours to free, and whose message is
        // a C string.
        let (message, expression) = unsafe {
            let message = CStr::from_ptr((*error).message).to_string_lossy().into_owned();
            let expression = usize::try_from((*error).expression).ok();
            ffi::hs_free_compile_error(error);
            (message, expression)
        };
        Err(Error::Compile { expression, message })
    }

    /// The database as bytes that [`Self::load`] takes.
    ///
    /// # Errors
    /// Want of memory.
    pub(crate) fn save(&self) -> Result<Vec<u8>, Error> {
        let mut bytes = ptr::null_mut();
        let mut length = 0;
        // SAFETY: the database is alive, and both results are written before the call returns.
        done(unsafe { ffi::hs_serialize_database(self.pointer, &raw mut bytes, &raw mut length) })?;
        // SAFETY: on success there are `length` bytes, which are ours to free with the allocator they came from.
        unsafe {
            let copy = std::slice::from_raw_parts(bytes.cast::<u8>(), length).to_vec();
            ffi::free(bytes.cast());
            Ok(copy)
        }
    }

    /// A database from saved bytes; `None` if they do not fit this library and processor, or are damaged.
    ///
    /// The library checks version, processor and a checksum, not more: **whoever can write these bytes can make
    /// the scan misbehave**. So the caller takes them only from where the gateway alone can write.
    pub(crate) fn load(bytes: &[u8]) -> Option<Self> {
        let mut pointer = ptr::null_mut();
        // SAFETY: the library reads `bytes.len()` bytes from the pointer and copies them.
        let code =
            unsafe { ffi::hs_deserialize_database(bytes.as_ptr().cast(), bytes.len(), &raw mut pointer) };
        (code == ffi::HS_SUCCESS).then_some(Self { pointer })
    }

    /// Its size in bytes.
    pub(crate) fn size(&self) -> usize {
        let mut size = 0;
        // SAFETY: the database is alive; a failure leaves 0.
        unsafe { ffi::hs_database_size(self.pointer, &raw mut size) };
        size
    }

    /// Adds every match in a text to `found`: its number and where it ends.
    ///
    /// # Panics
    /// If the scratch was not made for this database.
    pub(crate) fn scan(&self, text: &[u8], scratch: &mut Scratch, found: &mut Vec<Found>) {
        let mut notes = Notes { found, base: 0 };
        let length = c_uint::try_from(text.len()).unwrap_or(c_uint::MAX);
        // SAFETY: database and scratch are alive, and the scratch is ours alone; `length` bytes are there;
        // `note` gets the context it expects, which lives until the scan is over.
        let code = unsafe {
            ffi::hs_scan(
                self.pointer,
                text.as_ptr().cast(),
                length,
                0,
                scratch.pointer,
                Some(note),
                (&raw mut notes).cast(),
            )
        };
        expect_scanned(code);
    }
}

fn flags(expression: &Expression) -> c_uint {
    let caseless = if expression.caseless { ffi::HS_FLAG_CASELESS } else { 0 };
    caseless | if expression.once { ffi::HS_FLAG_SINGLEMATCH } else { 0 }
}

fn expect_scanned(code: c_int) {
    // A scan allocates nothing and fails only on arguments that do not belong together, or because `note` had
    // no memory left, where the gateway cannot go on either.
    assert!(code == ffi::HS_SUCCESS, "Hyperscan refused a scan with error {code}");
    debug_assert!(code != ffi::HS_SCAN_TERMINATED);
}

impl Drop for Database {
    fn drop(&mut self) {
        // SAFETY: made by the library, freed once; scratches do not point to it and streams hold on to it.
        unsafe { ffi::hs_free_database(self.pointer) };
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Database({} bytes)", self.size())
    }
}

/// A match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where it ends; in a stream counted from the base that the scan was given.
    pub(crate) end: u32,
    /// Which expression.
    pub(crate) number: u32,
}

/// What `note` writes to.
struct Notes<'v> {
    found: &'v mut Vec<Found>,
    base: u64,
}

/// Called by the library for each match. Anything but 0 stops the scan.
///
/// # Safety
/// `context` points to [`Notes`] that nobody else uses during the call.
unsafe extern "C" fn note(
    number: c_uint,
    _from: c_ulonglong,
    to: c_ulonglong,
    _flags: c_uint,
    context: *mut c_void,
) -> c_int {
    // SAFETY: the caller passes on what a scan of this file gave it.
    let notes = unsafe { &mut *context.cast::<Notes<'_>>() };
    // A panic must not cross the library's frames, so what could end in one ends in a stop.
    if notes.found.len() == notes.found.capacity() && notes.found.try_reserve(1).is_err() {
        return 1;
    }
    notes.found.push(Found { end: to.wrapping_sub(notes.base) as u32, number });
    0
}

/// The working memory of one thread.
#[derive(Debug)]
pub(crate) struct Scratch {
    pointer: *mut ffi::Scratch,
}

// SAFETY: plain memory that belongs to whoever holds it; it is not tied to a thread.
unsafe impl Send for Scratch {}

impl Scratch {
    /// Enough for any of these databases.
    ///
    /// # Panics
    /// If there is no memory for it.
    pub(crate) fn new<'d>(databases: impl IntoIterator<Item = &'d Database>) -> Self {
        let mut scratch = Self { pointer: ptr::null_mut() };
        for database in databases {
            // SAFETY: the database is alive; the pointer is null or a scratch, which the library replaces by a
            // larger one if it has to.
            let code = unsafe { ffi::hs_alloc_scratch(database.pointer, &raw mut scratch.pointer) };
            assert!(code == ffi::HS_SUCCESS, "no memory for a scratch: Hyperscan's error {code}");
        }
        scratch
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // SAFETY: made by the library and freed once, or null, which it takes.
        unsafe { ffi::hs_free_scratch(self.pointer) };
    }
}

/// A text that comes in pieces.
#[derive(Debug)]
pub(crate) struct Stream {
    pointer: *mut ffi::Stream,
    /// What it scans with, kept alive.
    _database: Arc<Database>,
}

// SAFETY: plain memory that belongs to whoever holds it; it is not tied to a thread.
unsafe impl Send for Stream {}
// SAFETY: nothing of it is read or changed through a shared reference.
unsafe impl Sync for Stream {}

impl Stream {
    /// # Panics
    /// If there is no memory for it, or the database is for blocks.
    pub(crate) fn open(database: &Arc<Database>) -> Self {
        let mut pointer = ptr::null_mut();
        // SAFETY: the database is alive, and stays so because the stream keeps it.
        let code = unsafe { ffi::hs_open_stream(database.pointer, 0, &raw mut pointer) };
        assert!(code == ffi::HS_SUCCESS, "no stream: Hyperscan's error {code}");
        Self { pointer, _database: Arc::clone(database) }
    }

    /// Adds the matches that end in this piece to `found`, their ends counted from `base` of the whole.
    ///
    /// # Panics
    /// If the scratch was not made for this database.
    pub(crate) fn scan(&mut self, piece: &[u8], base: u64, scratch: &mut Scratch, found: &mut Vec<Found>) {
        let mut notes = Notes { found, base };
        let length = c_uint::try_from(piece.len()).unwrap_or(c_uint::MAX);
        // SAFETY: as in `Database::scan`; the stream is alive and ours alone.
        let code = unsafe {
            ffi::hs_scan_stream(
                self.pointer,
                piece.as_ptr().cast(),
                length,
                0,
                scratch.pointer,
                Some(note),
                (&raw mut notes).cast(),
            )
        };
        expect_scanned(code);
    }

    /// Adds the matches that only the end of the text makes.
    pub(crate) fn close(mut self, base: u64, scratch: &mut Scratch, found: &mut Vec<Found>) {
        let mut notes = Notes { found, base };
        let pointer = std::mem::replace(&mut self.pointer, ptr::null_mut());
        // SAFETY: as above; the stream is freed here and, being null from now on, not again.
        let code =
            unsafe { ffi::hs_close_stream(pointer, scratch.pointer, Some(note), (&raw mut notes).cast()) };
        expect_scanned(code);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.pointer.is_null() {
            // SAFETY: the stream is alive; without a callback nothing is reported and no scratch is needed.
            unsafe { ffi::hs_close_stream(self.pointer, ptr::null_mut(), None, ptr::null_mut()) };
        }
    }
}
