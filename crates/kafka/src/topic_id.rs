//! Kafka's topic ids, through librdkafka's `DescribeTopics`, which the rdkafka crate (0.39)
//! doesn't wrap. A topic that was deleted and made anew has another id: offsets of the old one
//! mean nothing in it.
#![expect(
    unsafe_code,
    reason = "calls C functions that the rdkafka crate does not wrap"
)]

use crate::error::KafkaError;
use rdkafka::bindings as sys;
use rdkafka::client::{Client, ClientContext};
use std::ffi::{CStr, CString};
use std::ptr;
use std::time::Duration;

/// The topic's id in Kafka's own spelling; `None` where the broker doesn't tell ids.
pub(crate) fn of<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<String>, KafkaError> {
    let name = CString::new(topic)
        .map_err(|_| KafkaError::Topics(format!("{topic:?} is not a topic name")))?;
    let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    // SAFETY: every pointer below comes from librdkafka and is destroyed exactly once before
    // the function returns, in reverse order; strings are copied out before their event goes.
    // The client outlives the call. Null results are checked.
    unsafe {
        let rk = client.native_ptr();
        let mut names = [name.as_ptr()];
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1);
        let queue = sys::rd_kafka_queue_new(rk);
        let options = sys::rd_kafka_AdminOptions_new(
            rk,
            sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS,
        );
        sys::rd_kafka_AdminOptions_set_request_timeout(options, millis, ptr::null_mut(), 0);
        sys::rd_kafka_DescribeTopics(rk, topics, options, queue);
        let event = sys::rd_kafka_queue_poll(queue, millis.saturating_add(1000));
        let id = if event.is_null() {
            Err(KafkaError::Unavailable("DescribeTopics timed out".into()))
        } else {
            let id = read(event);
            sys::rd_kafka_event_destroy(event);
            id
        };
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_queue_destroy(queue);
        sys::rd_kafka_TopicCollection_destroy(topics);
        id
    }
}

/// # Safety
///
/// `event` is a live event that answers `DescribeTopics` for one topic.
unsafe fn read(event: *mut sys::rd_kafka_event_t) -> Result<Option<String>, KafkaError> {
    let text = |message: *const std::ffi::c_char| {
        if message.is_null() {
            String::new()
        } else {
            // SAFETY: librdkafka's strings end with NUL and live as long as the event.
            unsafe { CStr::from_ptr(message) }
                .to_string_lossy()
                .into_owned()
        }
    };
    // SAFETY: the caller's event is live; the results belong to it.
    unsafe {
        if sys::rd_kafka_event_error(event) != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return Err(KafkaError::Unavailable(text(
                sys::rd_kafka_event_error_string(event),
            )));
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &raw mut count);
        if count == 0 || topics.is_null() {
            return Ok(None);
        }
        let topic = *topics;
        let error = sys::rd_kafka_TopicDescription_error(topic);
        if !error.is_null()
            && sys::rd_kafka_error_code(error)
                != sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
        {
            return Err(KafkaError::Unavailable(text(sys::rd_kafka_error_string(
                error,
            ))));
        }
        let id = sys::rd_kafka_TopicDescription_topic_id(topic);
        if id.is_null() {
            return Ok(None);
        }
        let zero = sys::rd_kafka_Uuid_most_significant_bits(id) == 0
            && sys::rd_kafka_Uuid_least_significant_bits(id) == 0;
        Ok((!zero).then(|| text(sys::rd_kafka_Uuid_base64str(id))))
    }
}
