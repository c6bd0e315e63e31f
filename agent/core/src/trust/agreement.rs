//! The rules once more, written naively from their text, and held against the real ones on random histories.
//!
//! The model knows the whole graph and asks it with sets; it shares no code with the real rules but their types.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_000;
/// An admin, a person, one whose key has expired, one whose key is revoked, a stranger, the forge.
const KEYS: [&str; 6] = ["admin", "person", "late", "revoked", "stranger", "forge"];

/// One commit of a random history.
#[derive(Debug, Clone)]
struct Node {
    parents: Vec<usize>,
    /// `None`: unsigned.
    key: Option<usize>,
    /// Which list its tree has.
    list: usize,
    vouches: Vec<usize>,
    names_branch: bool,
    is_clean: bool,
    /// The commit of which it is a twin.
    twin_of: Option<usize>,
}

#[derive(Debug, Clone)]
struct Case {
    nodes: Vec<Node>,
    tip: usize,
    accepted: Option<usize>,
    introduction: Option<usize>,
    in_repository: bool,
    asks_for_branch: bool,
}

/// The lists that a tree may have: their serial and who is in them; the last two are none.
const LISTS: [(u64, &[&str]); 6] = [
    (1, &["admin", "person", "late", "revoked"]),
    (1, &["admin", "person", "late", "revoked"]),
    (2, &["admin", "late"]),
    (3, &["admin", "person", "stranger"]),
    (4, &[]),
    (0, &[]),
];
const USABLE: usize = 4;

fn node(index: usize) -> impl Strategy<Value = Node> {
    let parents = match index {
        0 => Just(vec![]).boxed(),
        _ => prop_oneof![
            8 => (0..index).prop_map(move |back| vec![index - 1 - back / 2]),
            3 => (0..index, 0..index).prop_map(|(a, b)| if a == b { vec![a] } else { vec![a, b] }),
            1 => Just(vec![]),
        ]
        .boxed(),
    };
    let key = prop_oneof![10 => Just(Some(0)), 6 => (1..KEYS.len()).prop_map(Some), 2 => Just(None)];
    let list = prop_oneof![12 => Just(0_usize), 3 => 0..LISTS.len()];
    let vouches = prop_oneof![3 => Just(vec![]), 1 => proptest::collection::vec(0..index.max(1), 1..3)];
    let twin_of = prop_oneof![12 => Just(None), 1 => (0..index.max(1)).prop_map(Some)];
    (parents, key, list, vouches, any::<bool>(), any::<bool>(), twin_of).prop_map(
        |(parents, key, list, vouches, names_branch, is_clean, twin_of)| Node {
            parents,
            key,
            list,
            vouches,
            names_branch,
            is_clean,
            twin_of,
        },
    )
}

fn case() -> impl Strategy<Value = Case> {
    (1_usize..11)
        .prop_flat_map(|count| {
            let nodes: Vec<_> = (0..count).map(node).collect();
            let some = || proptest::option::of(0..count);
            (nodes, prop_oneof![3 => Just(count - 1), 1 => 0..count], some(), some(), any::<bool>(), 0..4_u8)
        })
        .prop_map(|(mut nodes, tip, accepted, introduction, in_repository, asks)| {
            for index in 0..nodes.len() {
                // A twin is another id for the same content.
                match nodes[index].twin_of.filter(|of| *of < index) {
                    Some(of) => nodes[index] = Node { twin_of: Some(of), ..nodes[of].clone() },
                    None => nodes[index].twin_of = None,
                }
                // Most commits leave the list alone.
                if let Some(first) = nodes[index].parents.first().copied()
                    && nodes[index].list == 0
                    && nodes[index].twin_of.is_none()
                {
                    nodes[index].list = nodes[first].list;
                }
            }
            let introduction = if in_repository { introduction.or(Some(0)) } else { introduction };
            Case { nodes, tip, accepted, introduction, in_repository, asks_for_branch: asks == 0 }
        })
}

fn id(index: usize) -> CommitId {
    CommitId::new(&format!("{index:040x}")).unwrap()
}

impl Case {
    fn ancestors(&self, of: usize) -> BTreeSet<usize> {
        let mut all = BTreeSet::from([of]);
        for parent in &self.nodes[of].parents {
            all.extend(self.ancestors(*parent));
        }
        all
    }

    /// Twins of twins are twins of the first.
    fn content(&self, index: usize) -> usize {
        self.nodes[index].twin_of.map_or(index, |of| self.content(of))
    }

    fn payload(&self, index: usize) -> Digest {
        Digest::of(format!("payload {}", self.content(index)).as_bytes())
    }

    fn start(&self) -> Option<usize> {
        self.accepted.or(self.introduction)
    }

    fn is_start(&self, index: usize) -> bool {
        Some(index) == self.start() || self.accepted.is_some_and(|a| self.content(a) == self.content(index))
    }

    fn range(&self) -> BTreeSet<usize> {
        let all = self.ancestors(self.tip);
        let starts = (0..self.nodes.len()).filter(|i| self.is_start(*i));
        let behind: BTreeSet<usize> = starts.flat_map(|start| self.ancestors(start)).collect();
        all.difference(&behind).copied().collect()
    }

    fn introduced(&self, index: usize) -> bool {
        self.is_start(index) || self.introduction.is_none_or(|first| self.ancestors(index).contains(&first))
    }

    fn signers(people: &[&str]) -> Signers {
        let key = |name: &&str| AllowedKey {
            principals: if *name == "admin" { format!("x,{ADMIN}") } else { (*name).to_owned() },
            fingerprint: (*name).to_owned(),
            namespaces: None,
            valid_after: None,
            valid_before: (*name == "late").then_some(NOW - 1),
        };
        Signers::new(people.iter().map(key).collect())
    }

    fn policy(&self) -> Policy {
        let server = Self::signers(&["admin", "person", "late", "revoked"]);
        let introduction =
            self.introduction.map(|first| Introduction { commit: id(first), signer: "admin".to_owned() });
        Policy {
            authority: if self.in_repository { Authority::Repository } else { Authority::Server(server) },
            revoked: Revoked::Keys(["revoked".to_owned()].into()),
            introduction,
            forge: Self::signers(&["forge"]),
            deploy_to: self.asks_for_branch.then(|| "refs/heads/main".to_owned()),
        }
    }

    fn authorisation(&self, index: usize) -> Authorisation {
        let list = self.nodes[index].list;
        if !self.in_repository {
            Authorisation::Unread
        } else if list < USABLE {
            Authorisation::File(Digest::of(list.to_string().as_bytes()))
        } else {
            Authorisation::Unusable("none".to_owned())
        }
    }

    fn commit(&self, index: usize) -> Commit {
        let node = &self.nodes[index];
        let key = node.key.map(|key| KEYS[key].to_owned());
        let branch = node.names_branch.then(|| "refs/heads/main".to_owned());
        Commit {
            id: id(index),
            parents: node.parents.iter().map(|p| id(*p)).collect(),
            payload: Some(self.payload(index)),
            subject: String::new(),
            merge: match (node.key, node.parents.len()) {
                (Some(5), 2) if node.is_clean => Merge::Clean,
                (Some(5), 2) => Merge::Other("evil".to_owned()),
                _ => Merge::Unasked,
            },
            signature: key.map_or(Signature::Unsigned, |fingerprint| Signature::Valid { fingerprint }),
            trailers: Trailers {
                deploy_to: branch.into_iter().collect(),
                vouches: node.vouches.iter().map(|v| id(*v)).collect(),
            },
            authorisation: self.authorisation(index),
        }
    }

    fn facts(&self) -> Facts {
        let range = self.range();
        let parents = range.iter().flat_map(|i| self.nodes[*i].parents.clone());
        let mut ends: BTreeSet<usize> = parents.filter(|p| !range.contains(p)).collect();
        if range.is_empty() {
            ends.insert(self.tip);
        }
        let known = |index: usize| Known {
            id: id(index),
            payload: Some(self.payload(index)),
            introduced: self.introduced(index),
            authorisation: self.authorisation(index),
        };
        let behind = self.start().is_some_and(|start| self.ancestors(start).contains(&self.tip));
        Facts {
            tip: id(self.tip),
            commits: range.iter().map(|i| self.commit(*i)).collect(),
            known: ends.into_iter().map(known).collect(),
            older: behind && !self.is_start(self.tip),
            introduction: self.introduction.filter(|_| self.accepted.is_none()).map(|first| self.commit(first)),
            files: (0..USABLE)
                .map(|list| {
                    let (serial, people) = LISTS[list];
                    (Digest::of(list.to_string().as_bytes()), Authorised { serial, signers: Self::signers(people) })
                })
                .collect(),
        }
    }
}

/// The rules, naively.
impl Case {
    /// Every rule that is broken: its code, and the commit, by number.
    fn broken(&self) -> BTreeSet<(Code, usize)> {
        let mut broken = BTreeSet::new();
        let tip = self.tip;
        let history = self.ancestors(tip);
        if let Some(accepted) = self.accepted {
            // Rule 2.
            if self.content(accepted) == self.content(tip) {
                return broken;
            }
            if !history.iter().any(|i| self.content(*i) == self.content(accepted)) {
                let is_older = self.ancestors(accepted).contains(&tip);
                return BTreeSet::from([(if is_older { Code::Rollback } else { Code::Diverged }, tip)]);
            }
        } else if let Some(first) = self.introduction {
            // Rule 7.
            if !history.contains(&first) {
                return BTreeSet::from([(Code::PreIntro, tip)]);
            }
            match self.nodes[first].key {
                Some(0) if self.in_repository && self.nodes[first].list >= USABLE => {
                    return BTreeSet::from([(Code::Authz, first)]);
                }
                Some(0) => {}
                Some(3) => return BTreeSet::from([(Code::Revoked, first)]),
                Some(_) => return BTreeSet::from([(Code::UnknownKey, first)]),
                None => return BTreeSet::from([(Code::Unsigned, first)]),
            }
        }
        let range = self.range();
        let vouched: BTreeSet<usize> = range
            .iter()
            .filter(|v| self.signature(**v).is_none() && (!self.in_repository || self.is_admin(**v)))
            .flat_map(|v| self.nodes[*v].vouches.clone())
            .collect();
        for index in &range {
            broken.extend(self.faults(*index, &range, &vouched).into_iter().map(|code| (code, *index)));
        }
        // Rule 10.
        let is_introduction = self.accepted.is_none() && self.introduction == Some(tip);
        let says_branch = self.nodes[tip].names_branch && (is_introduction || self.signature(tip).is_none());
        if broken.is_empty() && self.asks_for_branch && !says_branch {
            broken.insert((Code::DeployTo, tip));
        }
        broken
    }

    fn faults(&self, index: usize, range: &BTreeSet<usize>, vouched: &BTreeSet<usize>) -> Vec<Code> {
        let node = &self.nodes[index];
        let mut faults = Vec::new();
        // Rule 4.
        let may_begin = self.start().is_none() && node.parents.is_empty();
        let roots = range.iter().filter(|i| self.nodes[**i].parents.is_empty()).count();
        if node.parents.is_empty() && (!may_begin || roots > 1) {
            faults.push(Code::Root);
        }
        if node.parents.iter().any(|p| !range.contains(p) && !self.introduced(*p)) {
            faults.push(Code::PreIntro);
        }
        let lists: Vec<usize> = node.parents.iter().map(|p| self.nodes[*p].list).collect();
        if self.in_repository && lists.iter().any(|list| *list >= USABLE) {
            faults.push(Code::Authz);
            return faults;
        }
        // Rules 3, 8 and 9.
        let own = self.signature(index);
        let forge = node.key == Some(5) && node.parents.len() == 2 && node.is_clean;
        if let Some(code) = own {
            if node.key == Some(5) && !forge && !vouched.contains(&index) {
                faults.push(Code::Merge);
            } else if !forge && !vouched.contains(&index) {
                faults.push(code);
            }
        }
        // Rule 5.
        if self.in_repository {
            let highest = lists.iter().map(|list| LISTS[*list].0).max().unwrap_or(0);
            let of_highest: BTreeSet<usize> = lists.into_iter().filter(|list| LISTS[*list].0 == highest).collect();
            let is_kept = of_highest == BTreeSet::from([node.list]);
            let may_change = own.is_none() && self.is_admin(index) && LISTS[node.list].0 > highest;
            if node.list >= USABLE || !(is_kept || may_change) {
                faults.push(Code::Authz);
            }
        }
        faults
    }

    /// Why a commit's own signature does not count, by the lists of all its parents or that of the server.
    fn signature(&self, index: usize) -> Option<Code> {
        let node = &self.nodes[index];
        let Some(key) = node.key else { return Some(Code::Unsigned) };
        if KEYS[key] == "revoked" {
            return Some(Code::Revoked);
        }
        let of_server: &[&str] = &["admin", "person", "late", "revoked"];
        let lists: Vec<&[&str]> = if self.in_repository {
            node.parents.iter().map(|p| LISTS[self.nodes[*p].list].1).collect()
        } else {
            vec![of_server]
        };
        if lists.is_empty() || lists.iter().any(|list| !list.contains(&KEYS[key])) {
            return Some(Code::UnknownKey);
        }
        // Rule 6.
        (KEYS[key] == "late" && index == self.tip).then_some(Code::Expired)
    }

    fn is_admin(&self, index: usize) -> bool {
        let node = &self.nodes[index];
        let lists = || node.parents.iter().map(|p| LISTS[self.nodes[*p].list].1);
        node.key == Some(0) && !node.parents.is_empty() && lists().all(|list| list.contains(&"admin"))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn the_rules_agree_with_their_naive_reading(case in case()) {
        let (policy, facts) = (case.policy(), case.facts());
        let accepted = case.accepted.map(|a| Accepted { commit: id(a), payload: case.payload(a) });
        let decision = verify(&policy, accepted.as_ref(), &facts, NOW);
        let broken: BTreeSet<(Code, CommitId)> =
            case.broken().into_iter().map(|(code, index)| (code, id(index))).collect();
        match decision {
            Ok(_) => prop_assert!(broken.is_empty(), "accepted, against {:?}", broken),
            Err(refusal) => {
                let named = (refusal.code, refusal.commit.clone());
                prop_assert!(broken.contains(&named), "refused for {:?}, the model has {:?}", refusal, broken);
            }
        }
    }

}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1, ..ProptestConfig::default() })]

    #[test]
    fn enough_of_the_random_histories_may_run(cases in proptest::collection::vec(case(), 200)) {
        let fine = cases.iter().filter(|case| case.broken().is_empty() && !case.range().is_empty()).count();
        prop_assert!(fine >= 4, "only {} of 200 histories have something that may run", fine);
    }
}
