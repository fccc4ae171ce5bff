//! A greeting, by the official runtime for Rust. See README.md.

use lambda_runtime::{service_fn, BoxFuture, Error, LambdaEvent, Runtime, SnapStartResource};
use serde_json::{json, Value};
use std::io::Read;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

/// Who this instance is: drawn when it starts, and again in each clone.
struct Identity(Mutex<String>);

impl Identity {
    fn draw(&self) -> Result<(), Error> {
        let mut id = [0u8; 8];
        std::fs::File::open("/dev/urandom")?.read_exact(&mut id)?;
        *self.0.lock().unwrap() = id.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(())
    }
}

impl SnapStartResource for Identity {
    fn after_restore(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { self.draw() })
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let started = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs_f64();
    let identity = Arc::new(Identity(Mutex::default()));
    identity.draw()?;
    let resource = identity.clone();
    let handle = service_fn(move |request: LambdaEvent<Value>| {
        let answer = json!({
            "greeting": format!("Hello, {}!", request.payload["name"].as_str().unwrap_or("world")),
            "started": started,
            "instance": *identity.0.lock().unwrap(),
        });
        async move { Ok::<_, Error>(answer) }
    });
    Runtime::new(handle).register_snapstart_resource(resource).run().await
}
