//! Empty: the build script is all.
