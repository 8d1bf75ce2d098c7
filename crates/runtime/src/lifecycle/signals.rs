//! SIGTERM and SIGINT: the first begins an orderly stop, the second ends the
//! process at once.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tracing::error;

use super::{Cause, Lifecycle, Signal};

/// Installs the handlers now, so that no signal after this call is missed, and
/// watches from a task of its own that lives as long as the process.
pub(super) fn watch(lifecycle: Lifecycle) -> io::Result<()> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        let mut heard = false;
        loop {
            // The order does not matter: either signal asks for the same.
            let signal = tokio::select! {
                Some(()) = interrupt.recv() => Signal::Interrupt,
                Some(()) = terminate.recv() => Signal::Terminate,
                else => return,
            };
            if heard {
                error!(%signal, "second signal, ending without a drain");
                std::process::exit(signal.exit_code());
            }
            heard = true;
            lifecycle.begin(Cause::Signal(signal));
        }
    });
    Ok(())
}
