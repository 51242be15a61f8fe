//! The cases, by what they are about.

mod acknowledge;
mod deadlines;
mod delivered;
mod dropping;
mod endings;
mod foreign;
mod in_place;
mod lifetimes;
mod many;
mod opening;
mod order;
mod rendezvous;
mod sizes;
mod typed;
mod wrap;

use crate::Case;

/// Every case, in the order of reading.
pub(crate) fn all() -> impl Iterator<Item = &'static Case> {
    [
        order::CASES,
        sizes::CASES,
        typed::CASES,
        many::CASES,
        deadlines::CASES,
        delivered::CASES,
        rendezvous::CASES,
        dropping::CASES,
        endings::CASES,
        in_place::CASES,
        acknowledge::CASES,
        opening::CASES,
        foreign::CASES,
        lifetimes::CASES,
        wrap::CASES,
    ]
    .into_iter()
    .flatten()
}
