//! The stage: a server behind a proxy, which can be killed, stopped, started again, hidden, and made to lose an answer.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail, ensure};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::proxy::Proxy;

/// In the stage's folder. No port, which somebody else could have while the server is down.
const SOCKET: &str = "runhub.sock";

/// A server on a temporary database, and the proxy before it.
pub struct Stage {
    folder: TempDir,
    binary: PathBuf,
    proxy: Proxy,
    /// None while it is down.
    server: Option<Child>,
}

impl Stage {
    /// Starts a server of this binary on an empty database.
    ///
    /// # Errors
    /// It can't be started.
    pub async fn open(binary: &Path) -> Result<Self> {
        let (folder, binary) = (tempfile::tempdir()?, binary.to_owned());
        let proxy = Proxy::bind(folder.path().join(SOCKET))?;
        let mut stage = Self { folder, binary, proxy, server: None };
        stage.start().await?;
        Ok(stage)
    }

    /// Where clients connect.
    pub fn address(&self) -> String {
        self.proxy.address().to_string()
    }

    /// Where the server listens itself: also while it is hidden.
    pub fn direct_address(&self) -> String {
        format!("unix:{}", self.folder.path().join(SOCKET).display())
    }

    /// Whose server it is.
    pub fn binary(&self) -> &Path {
        &self.binary
    }

    /// Does what a line says; see the README in this folder.
    ///
    /// # Errors
    /// It is no command, or can't be done: the server is down already, say.
    pub async fn act(&mut self, command: &str) -> Result<()> {
        match command {
            "start" => self.start().await,
            "kill" => self.end("KILL").await,
            "stop" => self.end("TERM").await,
            "show" => self.proxy.open(),
            "hide" => {
                self.proxy.close().await;
                self.proxy.cut();
                Ok(())
            }
            "lose_answer" => {
                self.proxy.lose_answer();
                Ok(())
            }
            other => bail!("there is no command {other:?}"),
        }
    }

    async fn start(&mut self) -> Result<()> {
        ensure!(self.server.is_none(), "the server runs already");
        let mut server = Command::new(&self.binary)
            .args(["serve", "--log", "warn", "--listen", &self.direct_address(), "--db"])
            .arg(self.folder.path().join("runhub.db"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't start {}", self.binary.display()))?;
        wait_until_it_listens(&mut server).await?;
        self.server = Some(server);
        self.proxy.open()
    }

    async fn end(&mut self, signal: &str) -> Result<()> {
        let mut server = self.server.take().context("the server is down already")?;
        self.proxy.close().await;
        let pid = server.id().context("the server has ended by itself")?;
        let sent = Command::new("kill").args(["-s", signal, &pid.to_string()]).status().await?;
        ensure!(sent.success(), "can't signal the server");
        server.wait().await?;
        Ok(())
    }
}

/// Its first line says so: `runhub … listens on ADDRESS, …`.
async fn wait_until_it_listens(server: &mut Child) -> Result<()> {
    let mut line = String::new();
    let stdout = server.stdout.as_mut().context("the server has no output")?;
    BufReader::new(stdout).read_line(&mut line).await?;
    ensure!(line.contains(" listens on "), "the server says {line:?}");
    Ok(())
}
