//! Gathering: which row goes where.

/// The rows of results, and how many entries of lists are wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// `[batch, heads_kv, chosen]`: the token whose row is this one; none for a row of zeros.
    pub tokens: Vec<Option<usize>>,
    /// Entries that are neither −1 nor a token of their sequence.
    pub wrong: usize,
}

/// The tokens that lists `[batch, heads_kv, chosen]` name, of sequences of `lengths` keys; negative ones are those of refused sequences.
///
/// ```
/// # use sala_kernels::reference::gather_rows::gather_rows;
/// let gathered = gather_rows(&[3, 0, -1, 5], &[4], 1);
/// assert_eq!(gathered.tokens, [Some(3), Some(0), None, None]);
/// assert_eq!(gathered.wrong, 1);
/// ```
///
/// # Panics
/// Where lists are not of one length.
pub fn gather_rows(token_indices: &[i32], lengths: &[i32], heads_kv: usize) -> Gathered {
    let rows = lengths.len() * heads_kv;
    assert!(rows > 0 || token_indices.is_empty(), "lists of sequences");
    let chosen = token_indices.len() / rows.max(1);
    let mut gathered = Gathered::default();
    for (entry, &token) in token_indices.iter().enumerate() {
        let length = lengths[entry / chosen / heads_kv];
        let is_token = (0..length).contains(&token);
        gathered.tokens.push(is_token.then_some(token as usize));
        gathered.wrong += usize::from(!is_token && token != -1 && length >= 0);
    }
    gathered
}
