//! The Engine API of Docker, and of Podman's compatible socket.
