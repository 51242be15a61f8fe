//! One safe function per kernel call that the rest needs. Everything here goes on after EINTR.
#![allow(unsafe_code)]
