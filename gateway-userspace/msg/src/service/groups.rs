//! Who is in which group.

use std::collections::BTreeSet;

use ringsteer_openim_rpc::groups::{
    AddMembersRequest, GetMembersRequest, Members, RemoveMembersRequest, SetMembersRequest, groups_server::Groups,
};
use tonic::{Request, Response, Status, async_trait};

use super::{Service, set};
use crate::{
    book::Change,
    writer::{Command, Outcome},
};

#[async_trait]
impl Groups for Service {
    async fn set_members(&self, request: Request<SetMembersRequest>) -> Result<Response<Members>, Status> {
        self.admit(&request)?;
        let SetMembersRequest { group_id, user_ids } = request.into_inner();
        self.change(group_id, Change::Set(set(user_ids))).await
    }

    async fn add_members(&self, request: Request<AddMembersRequest>) -> Result<Response<Members>, Status> {
        self.admit(&request)?;
        let AddMembersRequest { group_id, user_ids } = request.into_inner();
        self.change(group_id, Change::Add(set(user_ids))).await
    }

    async fn remove_members(&self, request: Request<RemoveMembersRequest>) -> Result<Response<Members>, Status> {
        self.admit(&request)?;
        let RemoveMembersRequest { group_id, user_ids } = request.into_inner();
        self.change(group_id, Change::Remove(set(user_ids))).await
    }

    async fn get_members(&self, request: Request<GetMembersRequest>) -> Result<Response<Members>, Status> {
        self.admit(&request)?;
        let group = request.into_inner().group_id;
        Ok(answer(self.read(move |book| book.members(&group)).await?))
    }
}

impl Service {
    async fn change(&self, group: String, change: Change) -> Result<Response<Members>, Status> {
        match self.write(Command::Members { group, change }).await? {
            Outcome::Members(members) => Ok(answer(members)),
            _ => Err(Status::internal("the writer answered something else")),
        }
    }
}

fn answer(members: BTreeSet<String>) -> Response<Members> {
    Response::new(Members { user_ids: members.into_iter().collect() })
}
