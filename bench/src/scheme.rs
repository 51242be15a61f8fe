//! What a scheme brings to be measured: how its ends send and receive the engine's messages.

use anyhow::Result;

use crate::payload::{Sink, Source};
use crate::player::Player;
use crate::scenario::Case;

/// A sending end. It asks the source for the next message and sends it, waiting for room.
pub trait Tx {
    /// Sends one message.
    ///
    /// # Errors
    /// Whatever ends the measurement.
    fn send(&mut self, source: &mut Source) -> Result<()>;

    /// Sends [`BATCH`](crate::scenario::BATCH) messages by one call, where there is such a call.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    fn send_batch(&mut self, source: &mut Source) -> Result<()> {
        (0..crate::scenario::BATCH).try_for_each(|_| self.send(source))
    }
}

/// A receiving end. It waits for a message and hands it to the sink, which checks it.
pub trait Rx {
    /// Receives one message.
    ///
    /// # Errors
    /// Whatever ends the measurement, also what the sink finds.
    fn recv(&mut self, sink: &mut Sink) -> Result<()>;

    /// Receives what is there, 1 to [`BATCH`](crate::scenario::BATCH) messages, and gives how many.
    ///
    /// # Errors
    /// As [`recv`](Self::recv).
    fn recv_batch(&mut self, sink: &mut Sink) -> Result<usize> {
        self.recv(sink)?;
        Ok(1)
    }
}

/// A way to send messages between processes, or a floor.
pub trait Scheme: Sync {
    /// Its name in results and on the command line.
    fn name(&self) -> &'static str;

    /// What it can be measured by.
    fn cases(&self) -> Vec<Case>;

    /// Plays one process's part: opens the channels and gives their ends to the player.
    ///
    /// # Errors
    /// What stands in the way.
    fn play(&self, player: Player) -> Result<()>;

    /// Removes what killed players left behind. `name` is the prefix of all that they made.
    fn clean_up(&self, name: &str) {
        let _ = name;
    }
}
