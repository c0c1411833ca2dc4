//! What is known of the fleet, and what to tell and do about it. Pure: news in, events out, time a parameter.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::{core::v1::ConfigMap, discovery::v1::EndpointSlice};

use super::{endpoints::Slices, follow::Told, naming::Naming};
use crate::{
    config::NewRing,
    membership::{
        Event, Order,
        object::RingObject,
        reconcile::{self, Candidate, Reconciler},
    },
};

/// The key under which the ring stands in the object's data.
pub const RING: &str = "ring";

/// What is known.
pub struct View {
    naming: Naming,
    /// Which of a member's addresses counts; by default IPv4 where there is one.
    ipv6: Option<bool>,
    /// What the ring object is called, for people.
    place: String,
    reconciler: Reconciler,
    order: Order,
    /// None until they were listed.
    slices: Option<Slices>,
    object: Object,
    /// Whether the endpoints, and the ring object, cannot be followed at present.
    lost: [bool; 2],
    /// The reason that was told for it. It stays until both can be followed again: that others come up while we try is no
    /// news.
    lost_because: Option<String>,
    /// Why the ring could not be changed.
    powerless: Option<String>,
}

/// What is known of the ring object.
enum Object {
    /// Nothing yet.
    Unknown,
    /// There is none.
    Missing,
    /// It holds no ring.
    Empty,
    /// It holds a ring.
    Ring(RingObject),
    /// It holds something else: why that is no ring.
    Broken(String),
}

/// What follows from what is known.
#[derive(Debug, Default)]
pub struct Outlook {
    /// To tell, in this order.
    pub events: Vec<Event>,
    /// Whether the ring is not what it should be.
    pub wants_change: bool,
    /// When to look again although nothing has happened.
    pub again: Option<Duration>,
}

// === impl View ===

impl View {
    /// Nothing is known yet.
    pub fn new(naming: Naming, ipv6: Option<bool>, terms: NewRing, place: String) -> Self {
        Self {
            naming,
            ipv6,
            place,
            reconciler: Reconciler::new(terms),
            order: Order::default(),
            slices: None,
            object: Object::Unknown,
            lost: [false; 2],
            lost_because: None,
            powerless: None,
        }
    }

    /// News of the endpoints.
    pub fn slices(&mut self, news: Told<EndpointSlice>) {
        if self.is_lost(0, &news) {
            self.reconciler.lost_sight();
            return;
        }
        let slices = self.slices.get_or_insert_default();
        match news {
            Told::All(all) => slices.replace(all),
            Told::Changed(slice) => slices.put(slice),
            Told::Gone(slice) => slices.remove(&slice),
            Told::Connected | Told::Broken(_) => {}
        }
    }

    /// News of the ring object.
    pub fn object(&mut self, news: Told<ConfigMap>) {
        if self.is_lost(1, &news) {
            return;
        }
        match news {
            Told::All(all) => self.object = all.first().map_or(Object::Missing, read),
            Told::Changed(object) => self.object = read(&object),
            Told::Gone(_) => self.object = Object::Missing,
            Told::Connected | Told::Broken(_) => {}
        }
        // Whatever stood in the way of a change, it is another object now.
        self.powerless = None;
    }

    /// Whether the one of them is lost, after these news.
    fn is_lost<K>(&mut self, which: usize, news: &Told<K>) -> bool {
        self.lost[which] = matches!(news, Told::Broken(_));
        match news {
            Told::Broken(why) => {
                self.lost_because.get_or_insert(why.clone());
            }
            _ if self.lost == [false; 2] => self.lost_because = None,
            _ => {}
        }
        self.lost[which]
    }

    /// The ring could not be changed.
    pub fn cannot_change(&mut self, why: String) {
        self.powerless.get_or_insert(why);
    }

    /// What follows.
    pub fn look(&mut self, now: Duration) -> Outlook {
        let mut outlook = Outlook::default();
        // Only another ring than the last: that this one still stands there does not end a trouble.
        if let Object::Ring(object) = &self.object
            && !self.is_in_force()
        {
            outlook.events.extend(self.order.newer(object.ring()));
        }
        let mut complaints = Vec::new();
        if self.lost_because.is_none() {
            let reconciled = self.reconciled(now, &mut complaints);
            outlook.wants_change = reconciled.proposal.is_some();
            outlook.again = reconciled.again;
            complaints.extend(reconciled.complaints);
        }
        outlook.events.extend(self.trouble(&complaints));
        outlook
    }

    fn reconciled(&mut self, now: Duration, complaints: &mut Vec<String>) -> reconcile::Outlook {
        let stored = match &self.object {
            Object::Ring(object) => Some(object.clone()),
            Object::Empty => None,
            // Nothing can be put there, or nothing must be.
            Object::Unknown | Object::Missing | Object::Broken(_) => return reconcile::Outlook::default(),
        };
        let Some(slices) = &self.slices else { return reconcile::Outlook::default() };
        let (candidates, left_out) = candidates(&self.naming, self.ipv6, slices, self.is_first(stored.as_ref()));
        complaints.extend(left_out.into_iter().map(|why| format!("{why}; it is left out of the ring")));
        self.reconciler.look(stored.as_ref(), &candidates, now)
    }

    /// Whether this fleet has had no ring yet.
    fn is_first(&self, stored: Option<&RingObject>) -> bool {
        stored.is_none() && self.order.ring().is_none()
    }

    /// What to say of what is in the way, or that nothing is any more.
    fn trouble(&mut self, complaints: &[String]) -> Option<Event> {
        let place = &self.place;
        let trouble = if let Some(why) = &self.lost_because {
            format!("Kubernetes' API cannot be reached, or refuses ({why}); the last ring stays in force")
        } else if let Object::Broken(why) = &self.object {
            format!(
                "{place} holds no ring under `{RING}` ({why}); the last ring stays in force. Mend it, or remove the key \
                 to have the ring written anew"
            )
        } else if let Object::Missing = self.object {
            format!("there is no {}; the last ring stays in force. Make an empty one", place.trim_start_matches("the "))
        } else if let Some(why) = &self.powerless {
            format!("{place} cannot be changed ({why}); the last ring stays in force")
        } else if !complaints.is_empty() {
            complaints.join("; ")
        } else if self.is_in_force() {
            return self.order.well();
        } else if let (Object::Empty, Some(slices)) = (&self.object, &self.slices)
            && candidates(&self.naming, self.ipv6, slices, true).0.is_empty()
        {
            format!("{place} holds no ring, and the service has no endpoints to make one of; start its pods")
        } else {
            // A ring is on its way.
            return None;
        };
        self.order.trouble(trouble)
    }

    /// Whether what the object holds is what was told.
    fn is_in_force(&self) -> bool {
        matches!(&self.object, Object::Ring(object) if self.order.ring() == Some(object.name()))
    }

    /// The object with the ring that follows from these, just read; none if it is what it should be.
    pub fn change(&mut self, object: &ConfigMap, slices: &Slices, now: Duration) -> Option<ConfigMap> {
        let stored = match read(object) {
            Object::Ring(stored) => Some(stored),
            Object::Empty => None,
            _ => return None,
        };
        let (candidates, _) = candidates(&self.naming, self.ipv6, slices, self.is_first(stored.as_ref()));
        let proposal = self.reconciler.look(stored.as_ref(), &candidates, now).proposal?;
        let mut object = object.clone();
        object.data.get_or_insert_with(BTreeMap::new).insert(RING.to_owned(), proposal.object.to_text());
        Some(object)
    }
}

fn read(object: &ConfigMap) -> Object {
    match object.data.as_ref().and_then(|data| data.get(RING)) {
        None => Object::Empty,
        Some(text) => match RingObject::parse(text.as_bytes()) {
            Ok(ring) => Object::Ring(ring),
            Err(error) => Object::Broken(error.to_string()),
        },
    }
}

/// Those there are, and what to say of those that can be none.
fn candidates(
    naming: &Naming,
    ipv6: Option<bool>,
    slices: &Slices,
    unready_too: bool,
) -> (Vec<Candidate>, Vec<String>) {
    let mut endpoints = slices.endpoints(ipv6.unwrap_or(false));
    if ipv6.is_none() && endpoints.is_empty() {
        endpoints = slices.endpoints(true);
    }
    naming.candidates(&endpoints, unready_too)
}
