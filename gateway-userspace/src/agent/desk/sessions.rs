//! Where a user's sessions are: asks the gateways, this node's over the control socket and the others' over the links.

use std::sync::Arc;

use futures_util::future::join_all;

use crate::{
    agent::shared::Agent,
    control::{NodeSessions, Sessions},
    peer::message::{Answer, Question},
    ring::{Member, Ring},
};

impl Agent {
    pub(in crate::agent) async fn sessions(self: Arc<Self>, user: String, everywhere: bool) -> Sessions {
        let in_force = self.in_force();
        let owner = |ring: &Option<Ring>| ring.as_ref().map(|ring| ring.owner(user.as_bytes()).clone());
        let mut asked: Vec<Member> = if everywhere {
            in_force.ring.as_ref().map(Ring::members).unwrap_or_default().to_vec()
        } else {
            [owner(&in_force.ring), owner(&in_force.previous)].into_iter().flatten().collect()
        };
        // This node knows itself best; and the same one need not be asked twice.
        asked.retain(|member| Some(member.address) != in_force.address);
        asked.dedup_by_key(|member| member.address);

        let here = async {
            let (sessions, error) = apart(self.gateways.sessions(&user).await);
            let name = self.config().node.name.clone();
            NodeSessions { number: in_force.number, name, here: true, sessions, error }
        };
        let others = join_all(asked.iter().map(|member| self.sessions_at(member, &user)));
        let (here, others) = futures_util::future::join(here, others).await;
        Sessions { user: user.clone(), nodes: [here].into_iter().chain(others).collect() }
    }

    async fn sessions_at(&self, member: &Member, user: &str) -> NodeSessions {
        let question = Question::Sessions { user: user.to_owned() };
        let answer = match self.network.get() {
            Some(network) => network.ask(member.address, question).await,
            None => Err("the links are not up yet".to_owned()),
        };
        let (sessions, error) = apart(answer.and_then(|answer| match answer {
            Answer::Sessions(sessions) => Ok(sessions),
            Answer::Error(error) => Err(error),
            _ => Err("it answers something else".into()),
        }));
        let name = member.identity.to_string();
        NodeSessions { number: Some(member.number), name, here: false, sessions, error }
    }
}

/// What was found, or nothing and why.
fn apart<T: Default>(result: Result<T, String>) -> (T, Option<String>) {
    match result {
        Ok(found) => (found, None),
        Err(error) => (T::default(), Some(error)),
    }
}
