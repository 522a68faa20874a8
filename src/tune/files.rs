//! The files of `tuning/`, built into the program: what they say is what the checks
//! want and what `apply` writes, so that there is one place to change it.

/// A file of `tuning/`: its name, where it goes, its text.
pub struct TuningFile {
    pub name: &'static str,
    pub goes_to: &'static str,
    pub text: &'static str,
}

/// Every file that an operator may install.
pub const FILES: &[TuningFile] = &[
    TuningFile {
        name: "sysctl",
        goes_to: "/etc/sysctl.d/99-corelog.conf",
        text: include_str!("../../tuning/sysctl.d/99-corelog.conf"),
    },
    TuningFile {
        name: "limits",
        goes_to: "/etc/security/limits.d/corelog.conf",
        text: include_str!("../../tuning/limits.d/corelog.conf"),
    },
    TuningFile {
        name: "service",
        goes_to: "/etc/systemd/system/corelog.service",
        text: include_str!("../../tuning/corelog.service"),
    },
    TuningFile {
        name: "tune-service",
        goes_to: "/etc/systemd/system/corelog-tune.service",
        text: include_str!("../../tuning/corelog-tune.service"),
    },
];

/// The file of this name.
pub fn file(name: &str) -> Option<&'static TuningFile> {
    FILES.iter().find(|file| file.name == name)
}

/// A kernel value of the sysctl file.
#[derive(Debug, PartialEq, Eq)]
pub struct Sysctl {
    /// With dots, as `sysctl` shows it.
    pub key: String,
    pub value: String,
    /// The comment above it: what it is for.
    pub reason: String,
}

impl Sysctl {
    /// Its file.
    pub fn path(&self) -> String {
        format!("/proc/sys/{}", self.key.replace('.', "/"))
    }
}

/// The values of a file in the syntax of sysctl.d. A comment holds for all values that follow it without an empty line.
pub fn sysctls(text: &str) -> Vec<Sysctl> {
    let (mut found, mut comment, mut in_comment) = (Vec::new(), Vec::new(), false);
    for line in text.lines().map(str::trim) {
        if let Some(words) = line.strip_prefix('#') {
            if !in_comment {
                comment.clear();
            }
            comment.push(words.trim());
        } else if line.is_empty() {
            comment.clear();
        } else if let Some((key, value)) = line.split_once('=') {
            found.push(Sysctl {
                // A dash in front lets `sysctl` pass over what this kernel does not have.
                key: key.trim().trim_start_matches('-').to_owned(),
                value: value.trim().to_owned(),
                reason: comment.join(" "),
            });
        }
        in_comment = line.starts_with('#');
    }
    found
}

/// The value of an item (`nofile`, `memlock`) in a file in the syntax of limits.d.
pub fn limit<'t>(text: &'t str, item: &str) -> Option<&'t str> {
    let lines = text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let mut fields = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields.find_map(|fields| match fields[..] {
        [_, _, name, value] if name == item => Some(value),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_syntax_of_sysctl_files() {
        let text = "# Head.\n\n# Why a\n# and b.\na.b = 1\n-c.d=2 3\n\ne.f = 4\n# g\ng = 5\n# h\nh = 6\nnonsense\n";
        let sysctl = |key: &str, value: &str, reason: &str| Sysctl {
            key: key.into(),
            value: value.into(),
            reason: reason.into(),
        };
        let expected = [
            sysctl("a.b", "1", "Why a and b."),
            sysctl("c.d", "2 3", "Why a and b."),
            sysctl("e.f", "4", ""),
            sysctl("g", "5", "g"),
            sysctl("h", "6", "h"),
        ];
        assert_eq!(sysctls(text), expected);
        assert_eq!(expected[0].path(), "/proc/sys/a/b");
    }

    #[test]
    fn the_files_are_what_the_checks_take_them_for() {
        let sysctls = sysctls(file("sysctl").unwrap().text);
        assert!(sysctls.len() >= 10 && sysctls.iter().all(|sysctl| !sysctl.reason.is_empty()), "{sysctls:?}");
        let limits = file("limits").unwrap().text;
        assert_eq!(limit(limits, "memlock"), Some("unlimited"));
        let open_files: u64 = limit(limits, "nofile").unwrap().parse().unwrap();
        assert_eq!(limit(limits, "core"), None);
        // A session's limits and the service's are the same.
        let service = file("service").unwrap().text;
        assert!(service.contains(&format!("\nLimitNOFILE={open_files}\n")) && service.contains("\nLimitMEMLOCK=inf"));
        assert!(file("tune-service").unwrap().text.contains("corelog tune apply"));
    }
}
