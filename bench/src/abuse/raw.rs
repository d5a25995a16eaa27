//! This module makes calls with the library h2, and sends frames without a library, because a gRPC library does not let
//! a client misbehave.

use std::future::poll_fn;
use std::io;

use h2::SendStream;
use h2::client::{ResponseFuture, SendRequest};
use prost::bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tonic::codegen::http::Request;

/// The bytes that a client sends first.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// A frame that asks the server for a ping response.
pub const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
/// A frame with no settings, which the server must confirm.
pub const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];

/// Number of bytes of responses that a connection accepts in total if no response is read. HTTP/2's default is 64 KiB.
pub const DEFAULT_WINDOW: u32 = 65_535;

/// A connection on which the caller decides when to send each part of a request, and whether to read a response.
/// Dropping the value closes the connection.
#[derive(Debug)]
pub struct RawConnection {
    sender: SendRequest<Bytes>,
    task: AbortHandle,
}

/// A call whose request is not complete.
#[derive(Debug)]
pub struct RawCall {
    /// Completes with the response's headers.
    pub response: ResponseFuture,
    /// The request.
    pub request: RawRequest,
}

/// A request that is not complete. Dropping the value resets the call.
#[derive(Debug)]
pub struct RawRequest(SendStream<Bytes>);

impl RawConnection {
    /// Connects to the server at `address` (HOST:PORT). `window` is the number of bytes that the server may send before
    /// the caller reads, for each call and for the connection.
    ///
    /// # Errors
    /// Fails if the server can't be reached or does not serve HTTP/2.
    pub async fn connect(address: &str, window: u32) -> io::Result<Self> {
        let io = TcpStream::connect(address).await?;
        io.set_nodelay(true)?;
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(window).initial_connection_window_size(window.max(DEFAULT_WINDOW));
        let (sender, connection) = builder.handshake(io).await.map_err(io::Error::other)?;
        // The calls report the errors of the connection.
        let task = tokio::spawn(async move { drop(connection.await) }).abort_handle();
        Ok(Self { sender, task })
    }

    /// Sends the headers of a call to the RPC with the path. The caller's deadline is in the header `grpc-timeout`, if
    /// `timeout` is set.
    ///
    /// # Errors
    /// Fails if the server has closed the connection.
    pub async fn start_call(&mut self, path: &str, timeout: Option<&str>) -> io::Result<RawCall> {
        let mut headers = vec![("content-type", "application/grpc"), ("te", "trailers")];
        headers.extend(timeout.map(|timeout| ("grpc-timeout", timeout)));
        self.start_call_with(path, &headers).await
    }

    /// Sends the headers of a call to the RPC with the path.
    ///
    /// # Errors
    /// Fails if a header is invalid, or if the server has closed the connection.
    pub async fn start_call_with(&mut self, path: &str, headers: &[(&str, &str)]) -> io::Result<RawCall> {
        let mut request = Request::post(format!("http://localhost{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(()).map_err(io::Error::other)?;
        poll_fn(|context| self.sender.poll_ready(context)).await.map_err(io::Error::other)?;
        let (response, request) = self.sender.send_request(request, false).map_err(io::Error::other)?;
        Ok(RawCall { response, request: RawRequest(request) })
    }

    /// Calls the RPC with the path. `message` is the encoded request.
    ///
    /// # Errors
    /// Fails if the server has closed the connection.
    pub async fn call(&mut self, path: &str, message: &[u8]) -> io::Result<RawCall> {
        let mut call = self.start_call(path, None).await?;
        let mut bytes = encode_prefix(message.len());
        bytes.extend(message);
        call.request.send(bytes.into(), true).await?;
        Ok(call)
    }
}

impl Drop for RawConnection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl RawRequest {
    /// Sends a part of the request as fast as the server accepts it. `is_last` states whether the part is the last
    /// part.
    ///
    /// # Errors
    /// Fails if the server has ended the call.
    pub async fn send(&mut self, mut bytes: Bytes, is_last: bool) -> io::Result<()> {
        while !bytes.is_empty() {
            self.0.reserve_capacity(bytes.len());
            let capacity = poll_fn(|context| self.0.poll_capacity(context)).await;
            let capacity = capacity.ok_or(io::ErrorKind::BrokenPipe)?.map_err(io::Error::other)?;
            let part = bytes.split_to(capacity.min(bytes.len()));
            self.0.send_data(part, is_last && bytes.is_empty()).map_err(io::Error::other)?;
        }
        Ok(())
    }

    /// Ends the request.
    ///
    /// # Errors
    /// Fails if the server has ended the call.
    pub fn end(&mut self) -> io::Result<()> {
        self.0.send_data(Bytes::new(), true).map_err(io::Error::other)
    }
}

/// Returns the prefix of a gRPC message of `length` bytes (below 4 GiB).
pub fn encode_prefix(length: usize) -> Vec<u8> {
    let mut prefix = vec![0];
    prefix.extend((length as u32).to_be_bytes());
    prefix
}

/// Connects, starts an HTTP/2 connection, and sends `frame` without pause until the server closes the connection.
/// Calls `on_sent` after each 1,000 frames.
///
/// # Errors
/// Fails when the server has closed the connection, or if the server can't be reached.
pub async fn flood(address: &str, frame: &[u8], on_sent: impl Fn()) -> io::Result<()> {
    let mut io = TcpStream::connect(address).await?;
    io.write_all(PREFACE).await?;
    io.write_all(&SETTINGS).await?;
    let frames = frame.repeat(1_000);
    loop {
        io.write_all(&frames).await?;
        on_sent();
    }
}
