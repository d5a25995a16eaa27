//! This module is a real nginx in front of the test server's proxy. With nginx, a client meets the errors of an HTTP
//! proxy: responses without a gRPC status, and streams that are reset on an open connection.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};

use crate::proxy::bind_reusable_socket;

const CONFIGURATION: &str = "nginx.conf";
const ERROR_LOG: &str = "error.log";

/// The end of the line that nginx writes to its error log when a worker process has ended after a reload.
const WORKER_HAS_EXITED: &str = "exited with code 0";

/// The maximum time of a start, a reload or a stop of nginx. A reload takes about as long as `worker_shutdown_timeout`.
const LIMIT: Duration = Duration::from_secs(20);

const POLL_INTERVAL: Duration = Duration::from_millis(10);

pub(crate) struct Nginx {
    /// Socket that is bound but never listens. While nginx is down, no other process can bind the port, and connections
    /// to the port are refused.
    _reservation: TcpSocket,
    address: SocketAddr,
    binary: PathBuf,
    /// The folder of the configuration, the error log and the temporary files.
    folder: PathBuf,
    /// The master process of nginx, which leads a process group of its own. While nginx is down, the value is None.
    master: Option<Child>,
}

impl Nginx {
    /// Reserves a port, writes a configuration to the folder, and starts nginx. Fails if nginx does not start.
    pub(crate) async fn open(binary: &Path, folder: PathBuf, upstream: SocketAddr) -> Result<Self> {
        let reservation = bind_reusable_socket("127.0.0.1:0".parse()?)?;
        let address = reservation.local_addr()?;
        std::fs::create_dir(&folder)?;
        std::fs::write(folder.join(CONFIGURATION), configuration(address, upstream))?;
        let mut nginx = Self { _reservation: reservation, address, binary: binary.to_owned(), folder, master: None };
        nginx.start().await?;
        Ok(nginx)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Starts nginx and waits until nginx listens. Fails if nginx is running or does not start.
    pub(crate) async fn start(&mut self) -> Result<()> {
        ensure!(self.master.is_none(), "nginx is already running: add the command `kill_nginx` or `stop_nginx` first");
        let master = Command::new(&self.binary)
            .arg("-p")
            .arg(&self.folder)
            .arg("-c")
            .arg(self.folder.join(CONFIGURATION))
            .args(["-e", ERROR_LOG])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // Workers stay alive if only the master process is killed, so the test server signals the whole group.
            .process_group(0)
            .spawn()
            .with_context(|| format!("can't start {}: install nginx (`nginx-light`)", self.binary.display()))?;
        self.master = Some(master);
        let began = Instant::now();
        while TcpStream::connect(self.address).await.is_err() {
            let has_exited = self.master.as_mut().is_none_or(|master| !matches!(master.try_wait(), Ok(None)));
            ensure!(
                !has_exited && began.elapsed() < LIMIT,
                "nginx does not listen on {}: its error log is {:?}",
                self.address,
                self.read_error_log()
            );
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Ends all processes of nginx immediately, so that all connections break. Fails if nginx is down.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        let mut master = self.take_master()?;
        send_signal("KILL", &format!("-{}", process_id(&master)?)).await?;
        master.wait().await?;
        // Only the parent of a worker process could wait for the end of the worker process.
        let began = Instant::now();
        while TcpStream::connect(self.address).await.is_ok() {
            ensure!(began.elapsed() < LIMIT, "a killed nginx still listens on {}: report the bug", self.address);
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    /// Shuts nginx down gracefully: nginx refuses connections, and closes each open connection after its last call, but
    /// at the latest after `worker_shutdown_timeout`. Fails if nginx is down.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        let mut master = self.take_master()?;
        send_signal("QUIT", &process_id(&master)?.to_string()).await?;
        let stopped = tokio::time::timeout(LIMIT, master.wait()).await;
        if stopped.is_err() {
            // Give the process back, so that dropping this value ends nginx.
            self.master = Some(master);
            bail!("nginx did not shut down within {LIMIT:?}: its error log is {:?}", self.read_error_log());
        }
        Ok(())
    }

    /// Reloads the configuration and waits until the old worker process, which closes its connections gracefully, has
    /// ended. Fails if nginx is down.
    pub(crate) async fn reload(&self) -> Result<()> {
        let master = self.master.as_ref().context("nginx is down: add the command `start_nginx` first")?;
        let exited_before = self.count_exited_workers();
        send_signal("HUP", &process_id(master)?.to_string()).await?;
        let began = Instant::now();
        while self.count_exited_workers() == exited_before {
            ensure!(
                began.elapsed() < LIMIT,
                "nginx did not reload within {LIMIT:?}: its error log is {:?}",
                self.read_error_log()
            );
            tokio::time::sleep(POLL_INTERVAL).await;
        }
        Ok(())
    }

    fn take_master(&mut self) -> Result<Child> {
        self.master.take().context("nginx is already down: add the command `start_nginx` first")
    }

    fn count_exited_workers(&self) -> usize {
        self.read_error_log().matches(WORKER_HAS_EXITED).count()
    }

    /// Returns the text of the error log, or an empty text if the log does not exist yet.
    fn read_error_log(&self) -> String {
        std::fs::read_to_string(self.folder.join(ERROR_LOG)).unwrap_or_default()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // `kill_on_drop` would end only the master process. If the signal can't be sent, nobody can handle the error.
        if let Some(id) = self.master.as_ref().and_then(Child::id) {
            let _ = std::process::Command::new("kill").args(["-s", "KILL", "--", &format!("-{id}")]).status();
        }
    }
}

fn process_id(process: &Child) -> Result<u32> {
    process.id().context("nginx has exited without a command: read its standard error")
}

/// Sends a signal to a process, or to a process group if `target` begins with `-`. Fails if `kill` fails.
async fn send_signal(signal: &str, target: &str) -> Result<()> {
    let sent = Command::new("kill").args(["-s", signal, "--", target]).status().await?;
    ensure!(sent.success(), "`kill -s {signal} -- {target}` failed: read the standard error of `kill`");
    Ok(())
}

/// Returns a configuration that forwards every call on `address` to `upstream`.
///
/// `grpc_read_timeout` is shorter than a bookmark interval, so nginx resets idle streams and ends held calls. nginx
/// opens all relative paths below its folder. The parameter `reuseport` lets nginx bind the reserved port.
fn configuration(address: SocketAddr, upstream: SocketAddr) -> String {
    format!(
        "daemon off;
pid nginx.pid;
error_log {ERROR_LOG} notice;
worker_processes 1;
worker_shutdown_timeout 1s;
events {{}}
http {{
    access_log off;
    client_body_temp_path temp;
    proxy_temp_path temp;
    fastcgi_temp_path temp;
    uwsgi_temp_path temp;
    scgi_temp_path temp;
    server {{
        listen {address} http2 reuseport;
        client_max_body_size 16m;
        location / {{
            grpc_pass grpc://{upstream};
            grpc_read_timeout 1s;
        }}
    }}
}}
"
    )
}
