//! Which CPUs to run on, as users write it.

use std::fmt;

use super::option::{Kind, OptionValue, Reason, list_items};

/// The option `cores`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CoreList {
    /// This many of those that the process may use, in their order.
    Count(usize),
    /// These CPUs, by the kernel's numbers, ascending and each once.
    Cpus(Vec<usize>),
}

/// Highest CPU number that Linux knows of in its affinity masks, with room.
const CPU_MAX: usize = 8191;

impl OptionValue for CoreList {
    const KIND: Kind = Kind::String;

    fn read(text: &str) -> Result<CoreList, Reason> {
        let wrong = || "a list of CPUs such as 0-3,6 or a number of cores is expected".to_string();
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n <= CPU_MAX).ok_or_else(wrong);
        if !text.contains([',', '-']) {
            return match number(text)? {
                0 => Err("at least one core is needed".to_string()),
                count => Ok(CoreList::Count(count)),
            };
        }
        let mut cpus = Vec::new();
        for item in list_items(text) {
            let (first, last) = item.split_once('-').unwrap_or((item, item));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(format!("the range {item} ends before it begins"));
            }
            cpus.extend(first..=last);
        }
        cpus.sort_unstable();
        cpus.dedup();
        Ok(CoreList::Cpus(cpus))
    }
}

impl CoreList {
    /// The CPUs to use out of those `allowed` (ascending).
    ///
    /// # Errors
    /// A sentence when there are not that many, or when one is not allowed.
    pub fn choose(&self, allowed: &[usize]) -> Result<Vec<usize>, String> {
        match self {
            CoreList::Count(count) if *count > allowed.len() => {
                Err(format!("cores={count}: the process may use only {} CPUs ({})", allowed.len(), ranges(allowed)))
            }
            CoreList::Count(count) => Ok(allowed[..*count].to_vec()),
            CoreList::Cpus(cpus) => match cpus.iter().find(|cpu| !allowed.contains(cpu)) {
                Some(cpu) => Err(format!("cores={self}: the process may not use CPU {cpu}, only {}", ranges(allowed))),
                None => Ok(cpus.clone()),
            },
        }
    }
}

impl fmt::Display for CoreList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CoreList::Count(count) => write!(f, "{count}"),
            CoreList::Cpus(cpus) => f.write_str(&ranges(cpus)),
        }
    }
}

/// Ascending numbers as `0-3,6`.
fn ranges(cpus: &[usize]) -> String {
    let mut text = String::new();
    for run in cpus.chunk_by(|a, b| a + 1 == *b) {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&run[0].to_string());
        if run.len() > 1 {
            text.push_str(&format!("-{}", run[run.len() - 1]));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_and_counts() {
        let cpus = |text| match CoreList::read(text) {
            Ok(CoreList::Cpus(cpus)) => cpus,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(cpus("0-3,6"), [0, 1, 2, 3, 6]);
        assert_eq!(cpus("6, 0 - 1 ,1"), [0, 1, 6]);
        assert_eq!(cpus("3-3"), [3]);
        assert_eq!(CoreList::read("4"), Ok(CoreList::Count(4)));
        for wrong in ["", "0", "a", "1-", "-1", "3-1", "0-99999", "1,,2", "0-1-2"] {
            assert!(CoreList::read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_choice_stays_within_what_is_allowed() {
        let choose = |text, allowed: &[usize]| CoreList::read(text).unwrap().choose(allowed);
        assert_eq!(choose("2", &[4, 5, 6]), Ok(vec![4, 5]));
        assert_eq!(choose("5,6", &[4, 5, 6]), Ok(vec![5, 6]));
        assert_eq!(choose("4", &[0, 1]), Err("cores=4: the process may use only 2 CPUs (0-1)".to_string()));
        assert_eq!(choose("1-3", &[0, 1, 2]), Err("cores=1-3: the process may not use CPU 3, only 0-2".to_string()));
    }
}
