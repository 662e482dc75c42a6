//! The embedded bus: publishers and subscribers of one process.

use std::sync::Arc;

use async_trait::async_trait;

use super::event::check_topic;
use super::hub::Hub;
use super::{Bus, Counts, Error, Event, Interest, Subscription};

/// A bus within this process.
#[derive(Default)]
pub struct LocalBus {
    hub: Arc<Hub>,
}

/// Returns an error unless every bus takes the interest.
pub(super) fn check_interest(interest: &Interest) -> Result<(), Error> {
    match interest {
        Interest::Topics(topics) => topics.iter().try_for_each(|topic| check_topic(topic)),
        Interest::Matching(_) => Ok(()),
    }
}

#[async_trait]
impl Bus for LocalBus {
    async fn publish(&self, event: Event) -> Result<(), Error> {
        event.check()?;
        self.hub.deliver(&Arc::new(event));
        Ok(())
    }

    async fn subscribe(&self, interest: Interest) -> Result<Box<dyn Subscription>, Error> {
        check_interest(&interest)?;
        Ok(self.hub.subscribe(interest))
    }

    fn unsubscribe(&self, id: &str) -> bool {
        self.hub.unsubscribe(id)
    }

    fn counts(&self) -> Counts {
        self.hub.counts()
    }

    async fn health(&self) -> Result<(), Error> {
        Ok(())
    }
}
