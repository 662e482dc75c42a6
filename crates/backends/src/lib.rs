//! The gateway's own backends: WorkManager, which runs the workers that it is given, and WebSocketManager, which bridges
//! WebSocket connections to topics. Both are gRPC servers with reflection and health, and clients of the gateway's state and pub/sub.

#![forbid(unsafe_code)]
