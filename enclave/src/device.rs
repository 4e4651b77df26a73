//! The real ports of a Nitro enclave: `/dev/nsm`, `AF_VSOCK`, and what the kernel shows.

use std::io;
use std::path::Path;

use adyton_shared::capped::Capped;
use aws_nitro_enclaves_nsm_api::api::{ErrorCode, Request, Response};
use aws_nitro_enclaves_nsm_api::driver;
use tokio_vsock::{VMADDR_CID_ANY, VsockAddr, VsockListener, VsockStream};

use crate::platform::{BoxFuture, Dial, Kernel, Listen, Nsm, Stream};

/// The context id of the parent instance, as every enclave sees it (Nitro Enclaves user guide).
const PARENT_CID: u32 = 3;
const RNG_CURRENT: &str = "/sys/class/misc/hw_random/rng_current";
const CLOCKSOURCE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";

/// The device `/dev/nsm`, opened once.
#[derive(Debug)]
pub struct NsmDevice {
    fd: i32,
}

impl NsmDevice {
    /// Opens the device.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] where there is none, which is everywhere but in an enclave.
    pub fn open() -> io::Result<Self> {
        let fd = driver::nsm_init();
        if fd < 0 {
            return Err(io::Error::new(io::ErrorKind::NotFound, "/dev/nsm cannot be opened"));
        }
        Ok(Self { fd })
    }
}

impl Nsm for NsmDevice {
    fn process(&self, request: Request) -> Response {
        match driver::nsm_process_request(self.fd, request) {
            // Not said to anybody else: what exactly the driver disliked.
            Response::Error(error) => Response::Error(error),
            response if is_known(&response) => response,
            _ => Response::Error(ErrorCode::InvalidResponse),
        }
    }
}

fn is_known(response: &Response) -> bool {
    matches!(
        response,
        Response::DescribePCR { .. }
            | Response::ExtendPCR { .. }
            | Response::LockPCR
            | Response::LockPCRs
            | Response::DescribeNSM { .. }
            | Response::Attestation { .. }
            | Response::GetRandom { .. }
    )
}

impl Drop for NsmDevice {
    fn drop(&mut self) {
        driver::nsm_exit(self.fd);
    }
}

/// Streams to the parent over `AF_VSOCK`.
#[derive(Debug, Clone, Copy, Default)]
pub struct VsockDial;

impl Dial for VsockDial {
    fn dial(&self, port: u32) -> BoxFuture<'_, io::Result<Stream>> {
        Box::pin(async move {
            let stream = VsockStream::connect(VsockAddr::new(PARENT_CID, port)).await?;
            Ok(Box::new(Capped(stream)) as Stream)
        })
    }
}

/// A listening `AF_VSOCK` socket. Stream sockets only (S-8).
#[derive(Debug)]
pub struct VsockListen(VsockListener);

impl VsockListen {
    /// Listens on a port.
    ///
    /// # Errors
    /// [`io::Error`] if the port is taken or the kernel has no vsock.
    pub fn bind(port: u32) -> io::Result<Self> {
        VsockListener::bind(VsockAddr::new(VMADDR_CID_ANY, port)).map(Self)
    }
}

impl Listen for VsockListen {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Option<Stream>>> {
        Box::pin(async move {
            let (stream, _) = self.0.accept().await?;
            Ok(Some(Box::new(Capped(stream)) as Stream))
        })
    }
}

/// The kernel's own files.
#[derive(Debug, Clone, Copy, Default)]
pub struct KernelFiles;

impl Kernel for KernelFiles {
    fn rng_current(&self) -> io::Result<String> {
        std::fs::read_to_string(Path::new(RNG_CURRENT))
    }

    fn clocksource(&self) -> io::Result<String> {
        std::fs::read_to_string(Path::new(CLOCKSOURCE))
    }
}
