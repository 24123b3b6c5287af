//! A layer of either kind: its projections on the CPU, its mixer on the device.

use crate::inputs::Inputs;
use crate::launcher::{Launcher, Scratch};
use crate::linear::LinearMixer;
use crate::model::{Layer, Model, normed};
use crate::scheduler::Settings;
use crate::sparse::SparseMixer;
use half::bf16;
use sala_kernels::{Device, Result};

/// A layer and what it owns.
pub struct Running<'m> {
    weights: &'m Layer,
    pub mixer: Mixer,
    /// Kernels that the step has queued so far.
    pub kernels: u64,
}

pub enum Mixer {
    Sparse(Box<SparseMixer>),
    Linear(Box<LinearMixer>),
}

/// The layers of a model, with their memory on a device.
pub fn all<'m>(device: &Device, settings: &Settings, model: &'m Model) -> Result<Vec<Running<'m>>> {
    let running = |weights: &'m Layer| {
        let mixer = match &weights.norms {
            None => Mixer::Sparse(Box::new(SparseMixer::new(device, settings)?)),
            Some(norms) => Mixer::Linear(Box::new(LinearMixer::new(device, settings, model, norms)?)),
        };
        Ok(Running {
            weights,
            mixer,
            kernels: 0,
        })
    };
    model.layers.iter().map(running).collect()
}

impl Running<'_> {
    /// The residual stream `x`, `[rows, HIDDEN]`, goes through the layer.
    pub fn step(
        &mut self,
        x: &mut [f32],
        launcher: &mut Launcher,
        scratch: &mut Scratch,
        inputs: &Inputs,
    ) -> Result<()> {
        let before = launcher.kernels();
        let h = normed(x);
        let weights = &self.weights.mixer;
        let (q, k, v) = (weights.q.project(&h), weights.k.project(&h), weights.v.project(&h));
        let gate = weights.gate.project(&h);
        let values = q.len();
        let mixed: Vec<bf16> = match &mut self.mixer {
            Mixer::Sparse(mixer) => {
                mixer.q.write(&q)?;
                mixer.k_new.write(&k)?;
                mixer.v_new.write(&v)?;
                mixer.gate.write(&gate)?;
                mixer.mix(launcher, scratch, inputs)?;
                mixer.out.read()?
            }
            Mixer::Linear(mixer) => {
                mixer.q.write(&q)?;
                mixer.k.write(&k)?;
                mixer.v.write(&v)?;
                mixer.gate.write(&gate)?;
                mixer.mix(launcher, scratch, inputs)?;
                mixer.out.read()?
            }
        };
        self.weights.finish(x, &mixed[..values]);
        self.kernels = launcher.kernels() - before;
        Ok(())
    }

    /// Takes in what was accepted.
    pub fn commit(&mut self, launcher: &mut Launcher, scratch: &mut Scratch, inputs: &Inputs) -> Result<()> {
        let before = launcher.kernels();
        match &mut self.mixer {
            Mixer::Sparse(mixer) => mixer.commit(launcher, scratch, inputs)?,
            Mixer::Linear(mixer) => mixer.commit(launcher, scratch, inputs)?,
        }
        self.kernels += launcher.kernels() - before;
        Ok(())
    }

    pub fn is_sparse(&self) -> bool {
        matches!(self.mixer, Mixer::Sparse(_))
    }
}
