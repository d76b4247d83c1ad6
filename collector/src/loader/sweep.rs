//! Starts the walks over what no event tells.

use std::io::Read;

use aya::programs::Iter;

use super::{Kernel, LoadError};

impl Kernel {
    /// Stamps the owners of sockets that nobody has stamped: call it when older processes were taken in.
    ///
    /// # Errors
    ///
    /// When the walk cannot be made; see [`Kernel::attached`].
    pub fn sweep_sockets(&mut self) -> Result<(), LoadError> {
        self.walk("sweep_sockets")
    }

    /// Shows the windows of threads that have gone idle in the middle of one.
    ///
    /// # Errors
    ///
    /// When the walk cannot be made.
    pub fn sweep_tasks(&mut self) -> Result<(), LoadError> {
        self.walk("sweep_tasks")
    }

    fn walk(&mut self, name: &'static str) -> Result<(), LoadError> {
        let failed = |error: &dyn std::fmt::Display| LoadError::Refused(format!("{name}: {error}"));
        let program = self.ebpf.program_mut(name).ok_or_else(|| failed(&"the object has no such program"))?;
        let program: &mut Iter = program.try_into().map_err(|error| failed(&error))?;
        let id = program.attach().map_err(|error| failed(&error))?;
        let link = program.take_link(id).map_err(|error| failed(&error))?;
        let mut walk = link.into_file().map_err(|error| failed(&error))?;
        // The programs print nothing; reading to the end is what makes the kernel walk.
        let mut nothing = Vec::new();
        walk.read_to_end(&mut nothing).map_err(|error| failed(&error))?;
        Ok(())
    }
}
