//! An opcode and its modifiers, each of which has to be accounted for.

/// An opcode while it is decoded.
#[derive(Debug)]
pub struct Opcode<'t> {
    /// As it is written.
    pub text: &'t str,
    /// The part before the first dot.
    pub name: &'t str,
    /// The parts that nobody has taken.
    left: Vec<&'t str>,
}

impl<'t> Opcode<'t> {
    pub fn new(text: &'t str) -> Self {
        let mut parts = text.split('.');
        Self {
            text,
            name: parts.next().unwrap_or_default(),
            left: parts.collect(),
        }
    }

    /// Takes a modifier, wherever it stands.
    pub fn take(&mut self, modifier: &str) -> bool {
        let found = self.left.iter().position(|part| *part == modifier);
        if let Some(index) = found {
            self.left.remove(index);
        }
        found.is_some()
    }

    /// Takes the modifiers that change nothing here.
    pub fn ignore(&mut self, modifiers: &[&str]) {
        self.left.retain(|part| !modifiers.contains(part));
    }

    /// Takes these modifiers, all of them or none.
    pub fn take_all(&mut self, modifiers: &[&str]) -> bool {
        let all = modifiers.iter().all(|modifier| self.left.contains(modifier));
        if all {
            self.left.retain(|part| !modifiers.contains(part));
        }
        all
    }

    /// Takes the one of several that is there.
    pub fn choose<T: Copy>(&mut self, choices: &[(&str, T)]) -> Option<T> {
        choices
            .iter()
            .find(|(modifier, _)| self.take(modifier))
            .map(|(_, choice)| *choice)
    }

    /// Takes the last modifier, the type.
    pub fn kind(&mut self) -> Result<&'t str, String> {
        self.left.pop().ok_or_else(|| "it has no type".to_owned())
    }

    /// Whether nothing is left.
    pub fn finish(&self) -> Result<(), String> {
        match self.left.first() {
            None => Ok(()),
            Some(modifier) => Err(format!("`.{modifier}` is not known here")),
        }
    }
}
