//! Frames that carry no content: windows, resets, SETTINGS, PING and GOAWAY (RFC 9113 §6.4-§6.9).

use super::{PROTOCOL_ERROR, Preface};
use crate::config::Role;
use crate::connection::{Connection, SHUTDOWN_PING};
use crate::error::{ErrorCode, Fault};
use crate::event::{Event, NO_TAG};
use crate::frame::goaway::GoAway;
use crate::frame::ping::Ping;
use crate::frame::reset::Reset;
use crate::frame::settings::Settings;
use crate::frame::window_update::WindowUpdate;
use crate::frame::{Head, flag};
use crate::streams::EndedBy;
use std::time::Instant;

impl Connection {
    /// §6.9.
    pub(super) fn take_window_update<'a>(
        &mut self,
        frame: WindowUpdate,
    ) -> Result<Option<Event<'a>>, Fault> {
        const RULE: &str = "WINDOW_UPDATE lifts a window over 2^31-1 (RFC 9113 §6.9.1)";
        let increment = i64::from(frame.increment);
        if frame.stream == 0 {
            return match self.send_window.add(increment) {
                Ok(()) => Ok(None),
                Err(_) => Err(Fault::connection(ErrorCode::FLOW_CONTROL_ERROR, RULE)),
            };
        }
        let Some(key) = self.streams.find(frame.stream) else {
            self.check_not_idle(frame.stream, "WINDOW_UPDATE on an idle stream (RFC 9113 §5.1)")?;
            return Ok(None);
        };
        if let Some(stream) = self.streams.get_mut(key)
            && stream.send_window.add(increment).is_err()
        {
            return Err(Fault::stream(ErrorCode::FLOW_CONTROL_ERROR, RULE));
        }
        self.join_line(key);
        Ok(None)
    }

    /// §6.4.
    pub(super) fn take_reset<'a>(
        &mut self,
        frame: Reset,
        now: Instant,
    ) -> Result<Option<Event<'a>>, Fault> {
        let Some(key) = self.streams.find(frame.stream) else {
            self.check_not_idle(frame.stream, "RST_STREAM on an idle stream (RFC 9113 §5.1)")?;
            return Ok(None);
        };
        self.take_reset_token(now)?;
        let tag = self.remove_stream(key, EndedBy::Peer).unwrap_or(NO_TAG);
        Ok(Some(Event::Reset { tag, code: frame.code }))
    }

    /// §6.5.
    pub(super) fn take_settings<'a>(
        &mut self,
        head: Head,
        payload: &[u8],
        now: Instant,
    ) -> Result<Option<Event<'a>>, Fault> {
        if head.has(flag::ACK) {
            Settings::check_ack(head)?;
            return match self.unacked_settings.pop_front() {
                Some(settings) => {
                    self.apply_settings(settings);
                    Ok(None)
                }
                None => Err(Fault::connection(
                    PROTOCOL_ERROR,
                    "SETTINGS are acknowledged that were not sent (RFC 9113 §6.5.3)",
                )),
            };
        }
        self.take_control(now)?;
        let settings = Settings::parse(head, payload)?;
        if settings.enable_push == Some(true) && self.role == Role::Client {
            return Err(Fault::connection(
                PROTOCOL_ERROR,
                "a server enables push (RFC 9113 §6.5.2)",
            ));
        }
        if let Some(size) = settings.header_table_size {
            self.encoder.set_max_table_size(size);
        }
        if let Some(limit) = settings.max_concurrent_streams {
            self.peer.max_concurrent_streams = limit;
        }
        if let Some(size) = settings.max_frame_size {
            self.peer.max_frame_size = size;
        }
        if let Some(size) = settings.max_header_list_size {
            self.peer.max_header_list_size = size;
        }
        if let Some(size) = settings.initial_window_size {
            self.change_initial_window(size)?;
        }
        Settings::write_ack(self.output.buffer());
        self.preface = Preface::Done;
        Ok(Some(Event::Settings))
    }

    /// §6.9.2: a new initial window moves the windows of all open streams.
    fn change_initial_window(&mut self, size: u32) -> Result<(), Fault> {
        let delta = i64::from(size) - i64::from(self.peer.initial_window);
        self.peer.initial_window = size;
        if delta == 0 {
            return Ok(());
        }
        let mut opened = Vec::new();
        for (key, stream) in self.streams.iter_mut() {
            if stream.send_window.add(delta).is_err() {
                return Err(Fault::connection(
                    ErrorCode::FLOW_CONTROL_ERROR,
                    "SETTINGS_INITIAL_WINDOW_SIZE lifts a window over 2^31-1 (RFC 9113 §6.9.2)",
                ));
            }
            if !stream.queue.is_empty() {
                opened.push(key);
            }
        }
        for key in opened {
            self.join_line(key);
        }
        Ok(())
    }

    /// §6.7.
    pub(super) fn take_ping<'a>(
        &mut self,
        frame: Ping,
        now: Instant,
    ) -> Result<Option<Event<'a>>, Fault> {
        let payload = frame.payload;
        if !frame.ack {
            self.take_control(now)?;
            self.pings += 1;
            Ping { ack: true, payload }.write(self.output.buffer());
            return Ok(None);
        }
        if self.shutdown_ping && payload == SHUTDOWN_PING {
            self.shutdown_ping = false;
            self.conclude_shut_down();
            return Ok(None);
        }
        Ok(Some(Event::Pong { payload }))
    }

    /// §6.8.
    pub(super) fn take_go_away<'a>(
        &mut self,
        frame: GoAway<'a>,
    ) -> Result<Option<Event<'a>>, Fault> {
        if self.peer_going_away.is_some_and(|last| frame.last_stream > last) {
            return Err(Fault::connection(
                PROTOCOL_ERROR,
                "a second GOAWAY raises the last stream id (RFC 9113 §6.8)",
            ));
        }
        self.peer_going_away = Some(frame.last_stream);
        Ok(Some(Event::GoAway {
            last_stream: frame.last_stream,
            code: frame.code,
            debug: frame.debug,
        }))
    }
}
