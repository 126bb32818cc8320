//! Faults that have a name on their proxy, for those who hold no guard: the API's view of faults.

use super::{Error, LinkFault, Proxy};
use crate::fault::Evidence;
use crate::proxy::Guard;

/// A fault that acts until it is removed by its name, or its proxy is stopped.
#[derive(Debug)]
pub(super) struct Held {
    name: String,
    fault: LinkFault,
    guard: Guard,
}

/// A fault as it is now.
#[derive(Debug, Clone, PartialEq)]
pub struct NamedFault {
    pub name: String,
    pub fault: LinkFault,
    pub evidence: Evidence,
}

impl Held {
    fn shown(&self) -> NamedFault {
        NamedFault { name: self.name.clone(), fault: self.fault.clone(), evidence: self.guard.evidence() }
    }
}

impl Proxy {
    /// Makes a fault act; returns when it does. Fails when the name is taken, or when this proxy cannot have the fault.
    pub async fn add_fault(&self, name: &str, fault: LinkFault) -> Result<NamedFault, Error> {
        let _change = self.shared.change.lock().await;
        if self.fault(name).is_ok() {
            return Err(Error::FaultExists);
        }
        let guard = match &fault {
            LinkFault::Network(fault) => self.inject(fault.clone()).await?,
            LinkFault::Wire(fault) => self.inject_wire(fault)?,
        };
        let held = Held { name: name.to_owned(), fault, guard };
        let shown = held.shown();
        self.shared.faults.lock().push(held);
        Ok(shown)
    }

    /// In the order of their creation.
    pub fn faults(&self) -> Vec<NamedFault> {
        self.shared.faults.lock().iter().map(Held::shown).collect()
    }

    pub fn fault(&self, name: &str) -> Result<NamedFault, Error> {
        let faults = self.shared.faults.lock();
        faults.iter().find(|held| held.name == name).map(Held::shown).ok_or(Error::FaultNotFound)
    }

    /// Heals a fault; what it touched until its end.
    pub async fn remove_fault(&self, name: &str) -> Result<NamedFault, Error> {
        let held = {
            let mut faults = self.shared.faults.lock();
            let index = faults.iter().position(|held| held.name == name).ok_or(Error::FaultNotFound)?;
            faults.remove(index)
        };
        let Held { name, fault, guard } = held;
        Ok(NamedFault { name, fault, evidence: guard.heal().await })
    }

    /// Heals all that have a name; faults whose guards are held elsewhere stay.
    pub async fn remove_faults(&self) {
        for held in self.take_faults() {
            held.guard.heal().await;
        }
    }

    /// Guards hold the proxy, and the proxy holds these: one that stops lets go of them.
    pub(super) fn take_faults(&self) -> Vec<Held> {
        std::mem::take(&mut *self.shared.faults.lock())
    }
}
