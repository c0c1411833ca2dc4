//! Version numbers, as compilers, linkers and kernels print them.

use std::fmt;

/// The first two numbers of a version: all that is ever compared here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// What counts incompatible generations.
    pub major: u32,
    /// What counts additions.
    pub minor: u32,
}

// === impl Version ===

impl Version {
    /// `major.minor`.
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Reads `major.minor`, followed by anything that does not go on with digits: `1.97.0-nightly`, `6.8-rc1`.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, rest) = text.split_once('.')?;
        let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// What a compiler says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rustc {
    /// The whole version: `1.97.0-nightly`.
    pub release: String,
    /// The part of it that is compared.
    pub version: Version,
    /// The LLVM that writes its bitcode.
    pub llvm: Version,
}

// === impl Rustc ===

impl Rustc {
    /// Reads the answer to `rustc -vV`.
    pub fn parse(verbose_version: &str) -> Option<Self> {
        let field = |name| verbose_version.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let release = field("release:")?;
        Some(Self {
            release: release.to_owned(),
            version: Version::parse(release)?,
            llvm: Version::parse(field("LLVM version:")?)?,
        })
    }

    /// Whether unstable options work without asking for them.
    pub fn is_nightly(&self) -> bool {
        self.release.ends_with("-nightly") || self.release.ends_with("-dev")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NIGHTLY: &str = "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)
binary: rustc
commit-hash: e50aa6fba4e63ab34c72bf9acfd2c307c1155d1a
commit-date: 2026-05-19
host: x86_64-unknown-linux-gnu
release: 1.97.0-nightly
LLVM version: 22.1.4
";

    #[test]
    fn versions_end_where_their_digits_end() {
        assert_eq!(Version::parse("0.10.3"), Some(Version::new(0, 10)));
        assert_eq!(Version::parse("6.8-rc1"), Some(Version::new(6, 8)));
        assert_eq!(Version::parse("6.18.44-custom-v5"), Some(Version::new(6, 18)));
        assert_eq!(Version::parse("22.1\n"), Some(Version::new(22, 1)));
        for text in ["", "6", "six.eight", "6.", ".8", "99999999999.1"] {
            assert_eq!(Version::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn versions_compare_as_numbers() {
        assert!(Version::new(6, 18) > Version::new(6, 8));
        assert!(Version::new(7, 0) > Version::new(6, 18));
    }

    #[test]
    fn a_compiler_tells_its_release_and_its_llvm() {
        let rustc = Rustc::parse(NIGHTLY).unwrap();
        assert_eq!(rustc.release, "1.97.0-nightly");
        assert_eq!(rustc.version, Version::new(1, 97));
        assert_eq!(rustc.llvm, Version::new(22, 1));
        assert!(rustc.is_nightly());
    }

    #[test]
    fn stable_and_beta_are_not_nightly() {
        for release in ["1.95.0", "1.96.0-beta.3"] {
            let rustc = Rustc::parse(&NIGHTLY.replace("1.97.0-nightly", release)).unwrap();
            assert!(!rustc.is_nightly(), "{release}");
        }
    }

    #[test]
    fn a_compiler_without_llvm_is_none_of_ours() {
        let cranelift = NIGHTLY.replace("LLVM version: 22.1.4\n", "");
        assert_eq!(Rustc::parse(&cranelift), None);
    }
}
