//! What players do: ping and pong, streams, one process alone.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};

use super::meter::{Meter, Report};
use super::{PARTNER_AT, Player};
use crate::clock::Ticks;
use crate::scenario::{BATCH, By, Wait};
use crate::scheme::{Rx, Tx};

impl Player {
    /// Role 0 of a ping-pong: `tx` leads to role 1, `rx` comes from it.
    ///
    /// # Errors
    /// What an end reports, or the check of a payload.
    pub fn ping(mut self, mut tx: impl Tx, mut rx: impl Rx) -> Result<()> {
        let (mut source, mut sink) = (self.source(), self.sink());
        self.obey(|player, warm_up, count| {
            let mut samples = Vec::with_capacity(count as usize);
            let partner = player.partner()?;
            for _ in 0..warm_up {
                tx.send(&mut source)?;
                rx.recv(&mut sink)?;
            }
            let meter = Meter::start()?;
            let mut before = Ticks::read();
            for _ in 0..count {
                if let Some(partner) = &partner {
                    partner.wait_until_asleep()?;
                    before = Ticks::read();
                }
                tx.send(&mut source)?;
                rx.recv(&mut sink)?;
                let after = Ticks::read();
                samples.push(after.wrapping_sub(before));
                before = after;
            }
            Ok(Report { percentiles_ns: Some(player.percentiles(&samples, 2.0)), ..meter.stop(count)? })
        })
    }

    /// The other side of a sleeping ping-pong.
    fn partner(&self) -> Result<Option<Partner>> {
        if self.case.wait != Some(Wait::Sleep) {
            return Ok(None);
        }
        let process = self.scratch.word(PARTNER_AT).load(Ordering::Acquire);
        Ok(Some(Partner(File::open(format!("/proc/{process}/stat"))?)))
    }

    /// Role 1 of a ping-pong.
    ///
    /// # Errors
    /// As [`ping`](Self::ping).
    pub fn pong(mut self, mut tx: impl Tx, mut rx: impl Rx) -> Result<()> {
        let (mut source, mut sink) = (self.source(), self.sink());
        self.scratch.word(PARTNER_AT).store(std::process::id().into(), Ordering::Release);
        self.obey(|_, warm_up, count| {
            let mut meter = Meter::start()?;
            for round in 0..warm_up + count {
                if round == warm_up {
                    meter = Meter::start()?;
                }
                rx.recv(&mut sink)?;
                tx.send(&mut source)?;
            }
            meter.stop(count)
        })
    }

    /// Role 0 of a rendezvous: each send lasts until its message was taken.
    ///
    /// # Errors
    /// As [`ping`](Self::ping).
    pub fn round(mut self, mut tx: impl Tx) -> Result<()> {
        let mut source = self.source();
        self.obey(|player, warm_up, count| {
            (0..warm_up).try_for_each(|_| tx.send(&mut source))?;
            let mut samples = Vec::with_capacity(count as usize);
            let meter = Meter::start()?;
            let mut before = Ticks::read();
            for _ in 0..count {
                tx.send(&mut source)?;
                let after = Ticks::read();
                samples.push(after.wrapping_sub(before));
                before = after;
            }
            Ok(Report { percentiles_ns: Some(player.percentiles(&samples, 1.0)), ..meter.stop(count)? })
        })
    }

    /// A sender of a stream.
    ///
    /// # Errors
    /// As [`ping`](Self::ping).
    pub fn stream_out(mut self, mut tx: impl Tx) -> Result<()> {
        let mut source = self.source();
        let senders = self.case.scenario.senders as u64;
        let is_batch = self.case.scenario.by == By::Batch;
        self.obey(|_, warm_up, count| {
            let mut send = |messages: u64| -> Result<()> {
                if is_batch {
                    (0..messages / BATCH as u64).try_for_each(|_| tx.send_batch(&mut source))
                } else {
                    (0..messages).try_for_each(|_| tx.send(&mut source))
                }
            };
            send(warm_up / senders)?;
            let meter = Meter::start()?;
            send(count / senders)?;
            meter.stop(count / senders)
        })
    }

    /// The receiver of a stream: the rate is measured here, from a message in mid-stream to the last one.
    ///
    /// # Errors
    /// As [`ping`](Self::ping).
    pub fn stream_in(mut self, mut rx: impl Rx) -> Result<()> {
        let mut sink = self.sink();
        let is_batch = self.case.scenario.by == By::Batch;
        self.obey(|_, warm_up, count| {
            let mut receive = |messages: u64| -> Result<u64> {
                let mut received = 0;
                while received < messages {
                    received += if is_batch {
                        rx.recv_batch(&mut sink)? as u64
                    } else {
                        rx.recv(&mut sink).map(|()| 1)?
                    };
                }
                Ok(received)
            };
            let early = receive(warm_up)?;
            let meter = Meter::start()?;
            let counted = receive(warm_up + count - early)?;
            meter.stop(counted)
        })
    }

    /// The only process of a measurement: repeats `act`, which gives how many clock ticks of it count.
    ///
    /// # Errors
    /// What `act` reports.
    pub fn alone(mut self, mut act: impl FnMut() -> Result<u64>) -> Result<()> {
        self.obey(|player, warm_up, count| {
            for _ in 0..warm_up {
                act()?;
            }
            let meter = Meter::start()?;
            let samples = (0..count).map(|_| act()).collect::<Result<Vec<u64>>>()?;
            let mut report = meter.stop(count)?;
            report.percentiles_ns = Some(player.percentiles(&samples, 1.0));
            report.elapsed_ns = samples.iter().map(|ticks| player.ticks.ns(*ticks) as u64).sum();
            Ok(report)
        })
    }

    /// A player whose act is not one of those above.
    ///
    /// # Errors
    /// What `act` reports.
    pub(crate) fn other(mut self, mut act: impl FnMut(u64) -> Result<Report>) -> Result<()> {
        self.obey(|_, _, count| act(count))
    }
}

/// A process that sleeps between messages.
struct Partner(File);

impl Partner {
    /// So that a wake-up is measured, and never a message that came before its receiver lay down.
    fn wait_until_asleep(&self) -> Result<()> {
        let mut stat = [0; 128];
        loop {
            let len = self.0.read_at(&mut stat, 0)?;
            // "PID (name) state ...": the name may hold anything, also a parenthesis.
            let name_end = stat[..len].iter().rposition(|byte| *byte == b')').context("/proc/PID/stat")?;
            if stat[..len].get(name_end + 2) == Some(&b'S') {
                return Ok(());
            }
        }
    }
}
