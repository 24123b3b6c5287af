//! What every launch shares, whatever the operation.
//!
//! | file | what |
//! |---|---|
//! | `arguments.rs` | the trait of every operation's arguments: their views, and the launch |
//! | `views.rs` | the one list of the views of a launch, and the checks that concern all of them |
//! | `checks.rs` | the rules that operations ask of single views and numbers |
//! | `kernel.rs` | typed kernels, and the variants that an operation chooses from |
//! | `tensor_map.rs` | what kernels that copy boxes of tensors are told of them |
//! | `kernels.rs` | the kernels loaded on a device: the only unsafe launch |

mod arguments;
pub(crate) mod checks;
mod kernel;
mod kernels;
mod tensor_map;
mod views;

pub use arguments::Arguments;
pub(crate) use kernel::{Params, Variant};
pub use kernels::Kernels;
pub use tensor_map::{MapAxis, MappedTensor};
pub use views::Views;
