//! A TCP proxy before Kafka or PostgreSQL that can be made to delay, cut, reset and hang.
//!
//! It has a thread of its own, so that it outlives the runtime of a test, and ends when dropped.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Longest piece that is handed on at a time.
const PIECE: usize = 64 * 1024;

/// What happens to connections.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Pass,
    /// Each piece is handed on so much later, both ways.
    Delay(Duration),
    /// Those that exist are closed, and new ones as well.
    Cut,
    /// The same, with a reset.
    Reset,
    /// What is sent over those that exist goes nowhere, for ever, and nobody is told; new ones pass.
    HangOld,
    /// The same for new ones too, until the mode changes: then all of them are closed.
    Hang,
}

/// What was done, as evidence.
#[derive(Debug, Default)]
pub struct Done {
    /// Connections that were closed or reset.
    pub cut: AtomicU64,
    /// Pieces that were delayed.
    pub delayed: AtomicU64,
    /// Bytes that went nowhere.
    pub swallowed: AtomicU64,
}

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    target: watch::Sender<Option<SocketAddr>>,
    done: Arc<Done>,
}

impl Proxy {
    /// Starts one whose target isn't known yet: callers wait for it.
    #[must_use]
    pub fn start() -> Self {
        let (mode, modes) = watch::channel(Mode::Pass);
        let (target, targets) = watch::channel(None);
        let done = Arc::<Done>::default();
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        listener.set_nonblocking(true).unwrap();
        let counts = Arc::clone(&done);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(serve(listener, modes, targets, counts));
        });
        Self {
            address,
            mode,
            target,
            done,
        }
    }

    /// Where connections lead.
    pub fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(Some(target));
    }

    /// Sets what happens from now on.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// What was done so far.
    #[must_use]
    pub fn done(&self) -> &Done {
        &self.done
    }
}

async fn serve(
    listener: std::net::TcpListener,
    mut modes: watch::Receiver<Mode>,
    mut targets: watch::Receiver<Option<SocketAddr>>,
    done: Arc<Done>,
) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            // Its owner has gone.
            changed = modes.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        let Ok((caller, _)) = accepted else { continue };
        let Ok(target) = targets
            .wait_for(Option::is_some)
            .await
            .map(|target| *target)
        else {
            return;
        };
        let (modes, done) = (modes.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            connection(caller, target.unwrap(), modes, &done).await;
        });
    }
}

async fn connection(
    mut caller: TcpStream,
    target: SocketAddr,
    modes: watch::Receiver<Mode>,
    done: &Done,
) {
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (caller.set_nodelay(true), server.set_nodelay(true));
    let began = *modes.borrow();
    let ((from_caller, to_caller), (from_server, to_server)) = (caller.split(), server.split());
    let way = |from, to| Way {
        from,
        to,
        modes: modes.clone(),
        // Set before this connection came, it lets it pass.
        passes: began == Mode::HangOld,
        lost: false,
    };
    let ended = tokio::select! {
        ended = way(from_caller, to_server).run(done) => ended,
        ended = way(from_server, to_caller).run(done) => ended,
    };
    if ended == End::Cut {
        done.cut.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum End {
    Cut,
    ByItself,
}

/// One direction of a connection.
struct Way<'a> {
    from: ReadHalf<'a>,
    to: WriteHalf<'a>,
    modes: watch::Receiver<Mode>,
    passes: bool,
    /// Bytes are missing: nobody may go on with it.
    lost: bool,
}

impl Way<'_> {
    async fn run(mut self, done: &Done) -> End {
        let mut piece = vec![0; PIECE];
        loop {
            let mode = *self.modes.borrow_and_update();
            match mode {
                Mode::Reset => {
                    let _ = self.from.as_ref().set_zero_linger();
                    let _ = self.to.as_ref().set_zero_linger();
                    return End::Cut;
                }
                Mode::Cut => return End::Cut,
                Mode::Hang => self.lost = true,
                Mode::HangOld => self.lost |= !self.passes,
                Mode::Pass | Mode::Delay(_) if self.lost => return End::Cut,
                Mode::Pass | Mode::Delay(_) => {}
            }
            let read = tokio::select! {
                // What was sent after a change is treated by it.
                biased;
                changed = self.modes.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return End::ByItself,
                },
                read = self.from.read(&mut piece) => read,
            };
            match read {
                Ok(length @ 1..) if self.lost => {
                    done.swallowed.fetch_add(length as u64, Ordering::Relaxed);
                }
                Ok(length @ 1..) => {
                    if let Mode::Delay(delay) = mode {
                        done.delayed.fetch_add(1, Ordering::Relaxed);
                        tokio::time::sleep(delay).await;
                    }
                    if self.to.write_all(&piece[..length]).await.is_err() {
                        return End::ByItself;
                    }
                }
                // Not even the end is handed on; it waits for another mode.
                _ if self.lost => {
                    let _ = self.modes.changed().await;
                }
                _ => {
                    let _ = self.to.shutdown().await;
                    // The other way goes on until it ends.
                    return std::future::pending().await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;
    use tokio::time::timeout;

    /// An echo behind a proxy.
    async fn echo() -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::start();
        proxy.lead_to(listener.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        proxy
    }

    async fn says(stream: &mut TcpStream) -> std::io::Result<u8> {
        stream.write_all(b"x").await?;
        stream.read_u8().await
    }

    #[tokio::test]
    async fn each_mode_does_what_it_is_called() {
        let proxy = echo().await;
        let connect = async || TcpStream::connect(proxy.address).await.unwrap();
        let short = Duration::from_millis(200);
        let mut old = connect().await;
        assert_eq!(says(&mut old).await.unwrap(), b'x');

        proxy.set(Mode::Delay(Duration::from_millis(100)));
        let started = Instant::now();
        assert_eq!(says(&mut old).await.unwrap(), b'x');
        assert!(started.elapsed() >= Duration::from_millis(200));

        proxy.set(Mode::HangOld);
        assert!(timeout(short, says(&mut old)).await.is_err());
        let mut new = connect().await;
        assert_eq!(says(&mut new).await.unwrap(), b'x', "new ones pass");
        proxy.set(Mode::Pass);
        assert!(says(&mut old).await.is_err(), "bytes of it are missing");
        assert_eq!(says(&mut new).await.unwrap(), b'x');

        proxy.set(Mode::Hang);
        assert!(timeout(short, says(&mut new)).await.is_err());
        let mut newer = connect().await;
        assert!(timeout(short, says(&mut newer)).await.is_err());
        proxy.set(Mode::Pass);
        assert!(says(&mut newer).await.is_err());

        for mode in [Mode::Cut, Mode::Reset] {
            let mut stream = connect().await;
            assert_eq!(says(&mut stream).await.unwrap(), b'x');
            proxy.set(mode);
            let error = stream.read_u8().await.unwrap_err();
            let reset = error.kind() == std::io::ErrorKind::ConnectionReset;
            assert_eq!(reset, mode == Mode::Reset, "{error}");
            let new = TcpStream::connect(proxy.address).await;
            let said = async |mut stream| says(&mut stream).await.is_ok();
            assert!(new.is_err() || !said(new.unwrap()).await, "nor a new one");
            proxy.set(Mode::Pass);
        }
        let done = proxy.done();
        assert!(done.cut.load(Ordering::Relaxed) >= 4);
        assert!(done.swallowed.load(Ordering::Relaxed) >= 3);
    }
}
