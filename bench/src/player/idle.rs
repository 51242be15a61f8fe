//! A receiver that sleeps while nothing is sent, until its only sender is killed.

use std::io::{BufRead, BufReader};
use std::process::Child;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use narrows::Deadline;

use super::meter::{Meter, Report};
use super::{Job, Player, start};
use crate::clock;

/// How long a receiver is given to be asleep before its sender is killed.
const FALL_ASLEEP: Duration = Duration::from_millis(50);
/// The longest wait for the notice of a death.
const NOTICE_PATIENCE: Duration = Duration::from_secs(10);

impl Player {
    /// Role 1 of [`Act::Idle`]: starts a sender, sleeps while it sends nothing, then has it killed. `recv` tells
    /// whether the end came before its deadline. The interval is from the kill to the notice; the processor time is
    /// that of one second of sleep.
    ///
    /// # Errors
    /// What `recv` reports, and an end at the wrong time.
    pub(crate) fn idle(mut self, mut recv: impl FnMut(Deadline) -> Result<bool>) -> Result<()> {
        self.obey(|player, _, sleep_ms| {
            let mut victim = player.start_victim()?;
            let meter = Meter::start()?;
            ensure!(
                !recv(Duration::from_millis(sleep_ms).into())?,
                "the channel ended while its sender lives"
            );
            let asleep = meter.stop(1)?;
            // At no fixed moment between two of the receiver's own rounds.
            let kill_after = FALL_ASLEEP + Duration::from_millis(player.runs * 37 % 100);
            let killer = std::thread::spawn(move || {
                std::thread::sleep(kill_after);
                let killed_ns = clock::now_ns();
                victim.kill().and_then(|()| victim.wait()).map(|_| killed_ns)
            });
            let is_over = recv(NOTICE_PATIENCE.into())?;
            let noticed_ns = clock::now_ns();
            let killed_ns = killer.join().map_err(|_| anyhow!("the killer panicked"))??;
            ensure!(is_over, "a sender's death was not noticed within {} s", NOTICE_PATIENCE.as_secs());
            let notice_ns = noticed_ns.saturating_sub(killed_ns);
            let cpu_ns = asleep.cpu_ns * 1_000_000_000 / asleep.elapsed_ns.max(1);
            let percentiles_ns = Some([Some(notice_ns as f64), None, None]);
            Ok(Report { cpu_ns, percentiles_ns, ..asleep })
        })
    }

    /// The sender that [`idle`](Self::idle) kills, when it is ready.
    fn start_victim(&self) -> Result<Child> {
        let job = Job { role: 0, cpu: self.job.cpu, ..self.job.clone() };
        let mut victim = start(&job, std::env::args_os().skip(1))?;
        let out = victim.stdout.take().context("the sender's output")?;
        let is_ready = |line: &str| line.ends_with("player: \"Ready\"");
        match BufReader::new(out).lines().map_while(Result::ok).find(|line| is_ready(line)) {
            Some(_) => Ok(victim),
            None => bail!("the sender to be killed ended early: {}", victim.wait()?),
        }
    }

    /// A player who only has to be there.
    ///
    /// # Errors
    /// Where the conductor is gone.
    pub(crate) fn stand_by(mut self) -> Result<()> {
        self.obey(|_, _, _| Ok(Report::default()))
    }
}
