//! A message for many users, owner by owner. Pure.

use std::collections::BTreeMap;

use ringsteer_batch::{Status, UserResult, good_user};

use crate::ring::{Identity, Ring};

/// How far a push has come.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    users: Vec<String>,
    results: Vec<Option<UserResult>>,
}

/// Users of one owner, by their indices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) owner: Identity,
    pub(super) users: Vec<usize>,
}

// === impl Plan ===

impl Plan {
    /// For those users. Who has a name that nobody can log in under is offline, and no gateway is asked: it would refuse
    /// the whole batch.
    pub(super) fn new(users: Vec<String>) -> Self {
        let known = |user: &String| (!good_user(user)).then(|| UserResult::without_session(user, Status::Offline));
        Self { results: users.iter().map(known).collect(), users }
    }

    pub(super) fn user(&self, index: usize) -> &str {
        &self.users[index]
    }

    /// The users who have no result yet, owner by owner, at most `max` in a group.
    pub(super) fn groups(&self, ring: &Ring, max: usize) -> Vec<Group> {
        let mut by_owner: BTreeMap<&Identity, Vec<usize>> = BTreeMap::new();
        for (index, user) in self.users.iter().enumerate().filter(|(index, _)| self.results[*index].is_none()) {
            by_owner.entry(&ring.owner(user.as_bytes()).identity).or_default().push(index);
        }
        let groups = by_owner.into_iter().flat_map(|(owner, users)| {
            let parts: Vec<Group> =
                users.chunks(max).map(|users| Group { owner: owner.clone(), users: users.to_vec() }).collect();
            parts
        });
        groups.collect()
    }

    /// A gateway has answered for a group. False if that is no answer to what it was asked; nothing is taken from it then.
    pub(super) fn answered(&mut self, group: &Group, results: Vec<UserResult>) -> bool {
        let fits = results.len() == group.users.len()
            && results.iter().zip(&group.users).all(|(result, &index)| result.user == self.users[index]);
        if fits {
            for (result, &index) in results.into_iter().zip(&group.users) {
                if result.status != Status::Unknown {
                    self.results[index] = Some(result);
                }
            }
        }
        fits
    }

    /// Whether all users have a result.
    pub(super) fn is_complete(&self) -> bool {
        self.results.iter().all(Option::is_some)
    }

    /// The time is over: a result for every user, in the order in which they were given.
    pub(super) fn finish(self) -> Vec<UserResult> {
        let unknown = |user: &str| UserResult::without_session(user, Status::Unknown);
        self.users.iter().zip(self.results).map(|(user, result)| result.unwrap_or_else(|| unknown(user))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ring::fixtures;

    fn result(user: &str, status: Status) -> UserResult {
        UserResult::without_session(user, status)
    }

    proptest! {
        #[test]
        fn every_user_is_asked_for_at_the_owner_until_somebody_knows(
            known in prop::collection::vec(0..3u8, 0..60),
            max in 1..9usize,
        ) {
            let ring = fixtures::openim(5, ":88");
            let users: Vec<String> = (0..known.len()).map(|index| format!("user-{index}")).collect();
            let mut plan = Plan::new(users.clone());
            // The first round answers for some, the second for all.
            for round in 0..2 {
                for group in plan.groups(&ring, max) {
                    prop_assert!(group.users.len() <= max);
                    let answer = group.users.iter().map(|&index| {
                        prop_assert_eq!(&ring.owner(users[index].as_bytes()).identity, &group.owner);
                        prop_assert!(round == 0 || known[index] == 0);
                        let status = if round == 0 && known[index] == 0 { Status::Unknown } else { Status::Offline };
                        Ok(result(&users[index], status))
                    });
                    let answer = answer.collect::<Result<_, _>>()?;
                    prop_assert!(plan.answered(&group, answer));
                }
            }
            prop_assert!(plan.is_complete() && plan.groups(&ring, max).is_empty());
            let names: Vec<String> = plan.finish().into_iter().map(|one| one.user).collect();
            prop_assert_eq!(names, users);
        }
    }

    #[test]
    fn who_cannot_have_a_session_is_offline_and_nobody_is_asked() {
        let ring = fixtures::openim(1, ":88");
        let mut plan = Plan::new(vec![String::new(), "a".into(), "x".repeat(257)]);
        let groups = plan.groups(&ring, 10);
        assert_eq!(groups.iter().map(|group| &group.users[..]).collect::<Vec<_>>(), [[1]]);
        assert!(plan.answered(&groups[0], vec![result("a", Status::Offline)]) && plan.is_complete());
        assert!(plan.finish().iter().all(|one| one.status == Status::Offline));
    }

    #[test]
    fn an_answer_to_something_else_is_none() {
        let ring = fixtures::openim(1, ":88");
        let mut plan = Plan::new(vec!["a".into(), "b".into()]);
        let group = plan.groups(&ring, 10).remove(0);
        assert!(!plan.answered(&group, vec![result("a", Status::Offline)]));
        assert!(!plan.answered(&group, vec![result("b", Status::Offline), result("a", Status::Offline)]));
        assert!(!plan.is_complete());
        let statuses: Vec<Status> = plan.finish().iter().map(|one| one.status).collect();
        assert_eq!(statuses, [Status::Unknown; 2]);
    }
}
