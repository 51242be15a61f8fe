//! What is tried while a supply runs out, each on a channel of its own.

use std::time::{Duration, Instant};

use narrows::channel::{self, Moment};
use narrows::{Deadline, Error};

use super::scene::Scene;

type Act = fn(&mut Scene) -> narrows::Result<()>;

/// One operation.
pub(super) struct Operation {
    pub(super) name: &'static str,
    /// Of the channel's address.
    options: &'static str,
    /// What is there before; nothing is missing meanwhile.
    prepare: Act,
    /// What is tried.
    act: Act,
    /// Moves megabytes: tried at fewer levels.
    pub(super) is_long: bool,
    /// Leaves no name behind where it succeeds.
    pub(super) removes: bool,
}

impl Operation {
    const fn new(name: &'static str, options: &'static str, prepare: Act, act: Act) -> Self {
        Self { name, options, prepare, act, is_long: false, removes: false }
    }

    const fn long(self) -> Self {
        Self { is_long: true, ..self }
    }

    const fn removing(self) -> Self {
        Self { removes: true, ..self }
    }

    pub(super) fn prepare(&self) -> narrows::Result<Scene> {
        let mut scene = Scene::new(self.options);
        (self.prepare)(&mut scene)?;
        Ok(scene)
    }

    pub(super) fn act(&self, scene: &mut Scene) -> narrows::Result<()> {
        (self.act)(scene)
    }
}

const SMALL: usize = 20;
const LARGE: usize = 5000;
const MEGABYTE: usize = 1 << 20;

pub(super) const OPERATIONS: &[Operation] = &[
    Operation::new("create", "", |_| Ok(()), Scene::open_sender),
    Operation::new("create one to one", "peers=one,slot_bytes=4096", |_| Ok(()), Scene::open_receiver),
    Operation::new("open to send", "", Scene::open_receiver, Scene::open_sender),
    Operation::new("open to receive", "", Scene::open_sender, Scene::open_receiver),
    Operation::new("clone", "", Scene::open_both, |scene| {
        let clone = scene.sender.as_ref().map(narrows::Sender::try_clone).transpose()?;
        scene.senders.extend(clone);
        Ok(())
    }),
    Operation::new("send small", "", Scene::open_both, |scene| scene.send(SMALL)),
    Operation::new("send small one to one", "peers=one", Scene::open_both, |scene| scene.send(SMALL)),
    Operation::new("send the first large", "", Scene::open_both, |scene| scene.send(LARGE)),
    Operation::new("send large one to one", "peers=one", Scene::open_both, |scene| scene.send(LARGE)),
    Operation::new("send large again", "", large_before, |scene| scene.send(LARGE)),
    Operation::new("grow", "", large_before, |scene| scene.send(300_000)),
    Operation::new("send a megabyte", "", Scene::open_both, |scene| scene.send(MEGABYTE)),
    Operation::new("send what is acknowledged", "ack=release", Scene::open_both, |scene| scene.send(SMALL)),
    Operation::new("send into memory given back", "", given_back, |scene| scene.send(MEGABYTE)).long(),
    Operation::new("loan and commit", "", Scene::open_both, |scene| loan(scene, LARGE)),
    Operation::new(
        "loan and commit a large slot",
        "peers=one,slot_bytes=1048576,capacity=4",
        Scene::open_both,
        |scene| loan(scene, MEGABYTE),
    ),
    Operation::new("receive small", "", |scene| waiting(scene, SMALL), Scene::recv),
    Operation::new("receive large", "", |scene| waiting(scene, LARGE), Scene::recv),
    Operation::new("receive a megabyte", "", |scene| waiting(scene, MEGABYTE), Scene::recv),
    Operation::new(
        "receive a megabyte to acknowledge",
        "ack=release",
        |scene| waiting(scene, MEGABYTE),
        Scene::recv,
    ),
    Operation::new(
        "receive a large slot",
        "peers=one,slot_bytes=1048576,capacity=4",
        |scene| waiting(scene, MEGABYTE),
        Scene::recv,
    ),
    Operation::new("receive in place", "", |scene| waiting(scene, MEGABYTE), in_place),
    Operation::new(
        "receive a large slot in place",
        "peers=one,slot_bytes=1048576,capacity=4",
        |scene| waiting(scene, MEGABYTE),
        in_place,
    ),
    Operation::new(
        "status",
        "",
        |scene| waiting(scene, LARGE),
        |scene| channel::status(&scene.bare()?).map(drop),
    ),
    Operation::new("list", "", |scene| waiting(scene, LARGE), |_| channel::list().map(drop)),
    Operation::new(
        "check",
        "",
        |scene| waiting(scene, LARGE),
        |scene| channel::check(&scene.bare()?, Moment::Any).map(drop),
    ),
    Operation::new("close", "", Scene::open_both, |scene| {
        scene.sender = None;
        scene.receiver = None;
        Ok(())
    })
    .removing(),
    Operation::new(
        "remove",
        "",
        |scene| {
            scene.address += ",lifetime=system";
            scene.open_sender()?;
            scene.sender = None;
            Ok(())
        },
        |scene| channel::remove(&scene.bare()?),
    )
    .removing(),
];

fn large_before(scene: &mut Scene) -> narrows::Result<()> {
    scene.open_both()?;
    scene.send(LARGE)?;
    scene.recv()
}

fn waiting(scene: &mut Scene, size: usize) -> narrows::Result<()> {
    scene.open_both()?;
    scene.send(size)
}

/// Large messages came and went, and the receiver gave their memory back.
fn given_back(scene: &mut Scene) -> narrows::Result<()> {
    scene.open_both()?;
    (0..12).try_for_each(|_| scene.send(MEGABYTE))?;
    (0..12).try_for_each(|_| scene.recv())?;
    let before = channel::status(&scene.bare()?)?.bytes;
    let start = Instant::now();
    while channel::status(&scene.bare()?)?.bytes == before {
        let idle = scene.receiver.as_mut().map(|receiver| receiver.recv_by(Duration::from_millis(20)));
        if !matches!(idle, Some(Err(Error::TimedOut { .. }))) || start.elapsed() > Duration::from_secs(5) {
            return Err(Error::Corrupt {
                what: scene.address.as_str().into(),
                problem: "no memory is given back".into(),
                hint: None,
            });
        }
    }
    // Some was kept: what is sent into it goes before.
    (0..8).try_for_each(|_| scene.send(MEGABYTE))
}

fn loan(scene: &mut Scene, size: usize) -> narrows::Result<()> {
    let message = scene.message(size);
    let Some(sender) = &mut scene.sender else { return Ok(()) };
    let sent = sender.loan(size).and_then(|mut loan| {
        loan.write_at(0, &message);
        Ok(sender.commit_by(loan, Deadline::Now)?)
    });
    scene.scratch = message;
    sent?;
    scene.was_sent(size);
    Ok(())
}

fn in_place(scene: &mut Scene) -> narrows::Result<()> {
    let Some(receiver) = &mut scene.receiver else { return Ok(()) };
    let Some(held) = receiver.recv_in_place(Deadline::Now)? else { return Ok(()) };
    let mut whole = std::mem::take(&mut scene.scratch);
    whole.resize(held.len(), 0);
    held.read_at(0, &mut whole);
    let is_it = scene.was_received(&whole);
    scene.scratch = whole;
    is_it
}

/// An operation that is wrong, and the words by which that is found.
pub(super) struct Plant {
    pub(super) operation: Operation,
    pub(super) found_by: &'static str,
}

const fn plant(name: &'static str, found_by: &'static str, act: Act) -> Plant {
    Plant { operation: Operation::new(name, "", Scene::open_both, act), found_by }
}

pub(super) const PLANTS: &[Plant] = &[
    plant("leaves a descriptor", "descriptors", |_| {
        std::mem::forget(std::fs::File::open("/dev/null"));
        refusal()
    }),
    plant("leaves a name", "names", |_| {
        std::fs::write("/dev/shm/left", "").ok();
        refusal()
    }),
    plant("leaves a mapping", "mappings", |scene| {
        std::mem::forget(narrows::Sender::<[u8]>::open(&*scene.address));
        refusal()
    }),
    plant("leaves memory", "pages", |_| {
        let file = std::fs::OpenOptions::new().write(true).open("/dev/shm/starved");
        let at = 200 << 20;
        file.and_then(|file| std::os::unix::fs::FileExt::write_all_at(&file, &[1; 4096], at)).ok();
        refusal()
    }),
    plant("names no supply", "names neither", |_| {
        Err(Error::Os { what: "shm:starved".into(), call: "fallocate", errno: 28 })
    }),
    plant("sends what nobody should get", "another message came", |scene| {
        let sender = scene.sender.as_mut();
        sender.map_or(Ok(()), |sender| sender.send_by(&[1; SMALL], Deadline::Now))
    }),
    plant("loses what it sent", "receiving what was sent", |scene| {
        scene.was_sent(SMALL);
        Ok(())
    }),
    plant("breaks a word", "unused", |_| {
        let memory = narrows::Region::open("shm:starved")?;
        memory.write_at(288, &[1])
    }),
    plant("ends the process", "died", |_| std::process::abort()),
];

fn refusal() -> narrows::Result<()> {
    Err(Error::NoSpace { what: "shm:starved".into(), supply: "planted".into(), hint: None })
}
