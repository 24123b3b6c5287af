//! The bridge: any launch over any tensors.

use std::cell::RefCell;

use candle_core::{Error, Result, Tensor};
use sala_kernels::{Arguments, Tensor as View, TensorMut as ViewMut};

use crate::memory::{self, Held, Place};
use crate::{Kernels, memory::Described};

/// The tensors of a launch, or of a few that follow one another, which are held while it is queued.
///
/// candle keeps the memory of a tensor behind a lock, which other tensors may share. Tensors are named to a launch first, to be read or to be
/// written; [`Self::run`] then takes every lock once, in the order in which candle takes them, and hands out the views.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use sala_kernels::{Norm, NormRopeArgs};
/// use sala_kernels_candle::{Kernels, Launch};
///
/// let kernels = Kernels::load(&Device::Cpu)?;
/// let x = Tensor::ones((10, 4, 64), DType::BF16, &Device::Cpu)?;
/// let out = x.zeros_like()?;
///
/// let norm = Norm::new(sala_kernels::DType::Bf16, 1e-6)?;
/// let launch = Launch::new(&kernels);
/// let (rows, outputs) = (launch.read("x", &x)?, launch.write("out", &out)?);
/// launch.run(|views| {
///     let args = NormRopeArgs::new(Some(views.view(rows)?), views.view_mut(outputs)?);
///     views.queue(&norm, args)
/// })?;
/// assert_eq!(out.to_vec3::<half::bf16>()?[9][3][63].to_f32(), 1.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Launch<'k> {
    kernels: &'k Kernels,
    tensors: RefCell<Vec<Described>>,
}

/// A tensor that a launch reads.
#[derive(Debug, Clone, Copy)]
pub struct Read<'l> {
    index: usize,
    launch: &'l RefCell<Vec<Described>>,
}

/// A tensor that a launch writes. It has one view, so this can be used once.
#[derive(Debug)]
pub struct Written<'l>(Read<'l>);

/// The tensors of a launch, while it runs.
#[derive(Debug)]
pub struct Views<'v> {
    kernels: &'v Kernels,
    launch: *const RefCell<Vec<Described>>,
    tensors: &'v [Described],
    held: &'v [Held],
}

impl<'k> Launch<'k> {
    /// A launch of no tensors yet.
    pub fn new(kernels: &'k Kernels) -> Self {
        Self {
            kernels,
            tensors: RefCell::default(),
        }
    }

    /// Adds a tensor that kernels read. `argument` is what errors call it.
    ///
    /// # Errors
    /// A tensor of another device or of elements that no kernel takes.
    pub fn read(&self, argument: &'static str, tensor: &Tensor) -> Result<Read<'_>> {
        self.add(argument, tensor, false)
    }

    /// Adds a tensor that kernels read, if there is one.
    pub fn read_if(&self, argument: &'static str, tensor: Option<&Tensor>) -> Result<Option<Read<'_>>> {
        tensor.map(|tensor| self.read(argument, tensor)).transpose()
    }

    /// Adds a tensor that kernels write, in place: whatever shares its memory sees it.
    ///
    /// # Errors
    /// As of [`Self::read`].
    pub fn write(&self, argument: &'static str, tensor: &Tensor) -> Result<Written<'_>> {
        self.add(argument, tensor, true).map(Written)
    }

    /// Adds a tensor that kernels write, if there is one.
    pub fn write_if(&self, argument: &'static str, tensor: Option<&Tensor>) -> Result<Option<Written<'_>>> {
        tensor.map(|tensor| self.write(argument, tensor)).transpose()
    }

    /// Holds all tensors while `launches` makes arguments of their views and queues them, in their order, on the device's stream.
    ///
    /// Operations of candle on any of these tensors belong outside of `launches`: they would wait for ever for what this thread holds.
    pub fn run(&self, launches: impl for<'v> FnOnce(&Views<'v>) -> Result<()>) -> Result<()> {
        let tensors = self.tensors.borrow();
        let places = Place::of(&tensors)?;
        let mut launches = Some(launches);
        let mut then = |held: &[Held]| {
            let views = Views {
                kernels: self.kernels,
                launch: &raw const self.tensors,
                tensors: &tensors,
                held,
            };
            // The locks are taken once.
            launches.take().map_or(Ok(()), |launches| launches(&views))
        };
        memory::hold(&places, &mut Vec::new(), &mut then)?;
        memory::check_order(self.kernels)
    }

    fn add(&self, argument: &'static str, tensor: &Tensor, is_written: bool) -> Result<Read<'_>> {
        let described = Described::new(argument, tensor, is_written, &self.kernels.device).map_err(Error::wrap)?;
        let mut tensors = self.tensors.try_borrow_mut().map_err(|_| {
            Error::msg(format!(
                "{argument}: expected a tensor that is added before the launch runs"
            ))
        })?;
        tensors.push(described);
        Ok(Read {
            index: tensors.len() - 1,
            launch: &self.tensors,
        })
    }
}

impl<'v> Views<'v> {
    /// The view of a tensor that is read.
    ///
    /// # Errors
    /// More axes than a view has, an address that is no multiple of the element's size, a tensor of another launch.
    pub fn view(&self, tensor: Read<'_>) -> Result<View<'v>> {
        let (described, held) = self.find(tensor)?;
        let (shape, strides) = (described.tensor.dims(), described.tensor.stride());
        let device = self.kernels.kernels.device();
        // SAFETY: the memory is held while `'v` lasts, which no closure can outlive; it is the tensor's own as far as `check` finds. The
        // launch that is given the view is ordered by the device's stream, as what candle does with the memory afterwards.
        let view = unsafe { View::from_raw(device, described.address(held), described.dtype, shape, strides) };
        described.check(view, held).map_err(Error::wrap)
    }

    /// The view of a tensor that is read, if there is one.
    pub fn view_if(&self, tensor: Option<Read<'_>>) -> Result<Option<View<'v>>> {
        tensor.map(|tensor| self.view(tensor)).transpose()
    }

    /// The view of a tensor that is written.
    ///
    /// # Errors
    /// As of [`Self::view`], and a tensor two of whose indices name one element, as broadcasting makes them.
    pub fn view_mut(&self, tensor: Written<'_>) -> Result<ViewMut<'v>> {
        let tensor = tensor.0;
        self.view(tensor)?;
        let (described, held) = self.find(tensor)?;
        let (shape, strides) = (described.tensor.dims(), described.tensor.stride());
        let device = self.kernels.kernels.device();
        // SAFETY: as in `view`; the memory is held for writing, and of the views of it that were asked for to be written there is this one, or
        // a launch finds that another overlaps it.
        let view = unsafe { ViewMut::from_raw(device, described.address(held), described.dtype, shape, strides) };
        view.map_err(|error| Error::wrap(described.named(error)))
    }

    /// The view of a tensor that is written, if there is one.
    pub fn view_mut_if(&self, tensor: Option<Written<'_>>) -> Result<Option<ViewMut<'v>>> {
        tensor.map(|tensor| self.view_mut(tensor)).transpose()
    }

    /// Queues an operation.
    ///
    /// # Errors
    /// What [`sala_kernels::Kernels::launch`] refuses, and views that this launch did not make.
    pub fn queue<A: Arguments>(&self, operation: &A::Operation, args: A) -> Result<()> {
        let holds = |reached: &std::ops::Range<u64>| self.held.iter().any(|held| held.holds(reached));
        args.views().check_held(holds).map_err(Error::wrap)?;
        memory::check_order(self.kernels)?;
        // SAFETY: all views lie in memory that is held, for writing where kernels write, until what follows on the device is ordered after this
        // launch: by the stream, or on the CPU because it has run.
        unsafe { self.kernels.kernels.launch(&self.kernels.stream, operation, args) }.map_err(Error::wrap)
    }

    fn find(&self, tensor: Read<'_>) -> Result<(&'v Described, &'v Held)> {
        let described = self.tensors.get(tensor.index);
        let described = described.filter(|_| std::ptr::eq(tensor.launch, self.launch));
        let held = described.and_then(|described| self.held.iter().find(|held| held.key == described.key));
        match (described, held) {
            (Some(described), Some(held)) => Ok((described, held)),
            _ => Err(Error::msg("expected a tensor of this launch, got one of another")),
        }
    }
}
