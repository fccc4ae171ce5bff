//! The function of the official clients' tests, for lambda_runtime: see tests/clients/README.md for what it answers.

use lambda_runtime::{service_fn, BoxFuture, Error, LambdaEvent, Runtime, SnapStartResource};
use serde_json::{json, Value};
use std::io::Read;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{mpsc, Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

static TICKS: AtomicU64 = AtomicU64::new(0);
static WORKED: AtomicU64 = AtomicU64::new(0);
static COUNT: AtomicU64 = AtomicU64::new(0);

fn draw() -> String {
    let mut bytes = [0u8; 16];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

struct App {
    born: String,
    clone: Mutex<Option<String>>,
    hooks: Mutex<Vec<String>>,
    squares: Mutex<(mpsc::Sender<u64>, mpsc::Receiver<u64>)>,
}

struct Hook(Arc<App>, &'static str);

impl Hook {
    fn run(&self, when: &str) -> Result<(), Error> {
        let name = format!("{when} {}", self.1);
        self.0.hooks.lock().unwrap().push(name.clone());
        if std::env::var("FAIL") == Ok(name.clone()) {
            return Err(format!("the hook {name} failed").into());
        }
        Ok(())
    }
}

impl SnapStartResource for Hook {
    fn before_snapshot(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { self.run("before") })
    }

    fn after_restore(&self) -> BoxFuture<'_, Result<(), Error>> {
        Box::pin(async { self.run("after") })
    }
}

/// Is in the middle of something whenever it is looked at.
fn work() {
    loop {
        for _ in 0..5 {
            let mut words: Vec<String> = (0..500).map(|n| n.to_string()).collect();
            words.sort();
        }
        WORKED.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn is_busy() -> bool {
    std::env::var_os("BUSY").is_some()
}

/// A thread of the standard library's, tokio's workers, its blocking pool, and its timers.
async fn threads_work(app: &App) -> bool {
    let before = TICKS.load(Ordering::Relaxed);
    let enough = if is_busy() { WORKED.load(Ordering::Relaxed) + 3 } else { 0 };
    let tasks: Vec<_> = (0..16u64).map(|n| tokio::spawn(async move { n * n })).collect();
    let mut sum = 0;
    for task in tasks {
        sum += task.await.unwrap();
    }
    sum += tokio::task::spawn_blocking(|| 2).await.unwrap();
    {
        let channel = app.squares.lock().unwrap();
        channel.0.send(12).unwrap();
        sum += channel.1.recv().unwrap();
    }
    while TICKS.load(Ordering::Relaxed) < before + 3 || WORKED.load(Ordering::Relaxed) < enough {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    sum == 1240 + 2 + 144
}

async fn handle(app: Arc<App>, request: LambdaEvent<Value>) -> Result<Value, Error> {
    let (event, context) = request.into_parts();
    let clone = app.clone.lock().unwrap().get_or_insert_with(draw).clone();
    let count = COUNT.fetch_add(1, Ordering::Relaxed) + 1;
    match event["do"].as_str() {
        Some("fail") => return Err("it failed".into()),
        Some("panic") => panic!("it panicked"),
        Some("exit") => std::process::exit(7),
        _ => {}
    }
    if let Some(text) = event["log"].as_str() {
        eprintln!("logged: {text}");
    }
    tokio::time::sleep(Duration::from_millis(event["hold_ms"].as_u64().unwrap_or(0))).await;
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
    Ok(json!({
        "event": event, "born": app.born, "clone": clone, "count": count, "hooks": *app.hooks.lock().unwrap(),
        "threads": threads_work(&app).await, "request": context.request_id, "arn": context.invoked_function_arn,
        "remaining": context.deadline as i64 - now,
    }))
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let (to_thread, questions) = mpsc::channel::<u64>();
    let (answers, from_thread) = mpsc::channel();
    std::thread::spawn(move || questions.iter().try_for_each(|n| answers.send(n * n)));
    if is_busy() {
        std::thread::spawn(work);
        tokio::task::spawn_blocking(work);
    }
    tokio::spawn(async {
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            TICKS.fetch_add(1, Ordering::Relaxed);
        }
    });
    let app = Arc::new(App {
        born: draw(),
        clone: Mutex::new(None),
        hooks: Mutex::new(Vec::new()),
        squares: Mutex::new((to_thread, from_thread)),
    });
    let handled = app.clone();
    Runtime::new(service_fn(move |request| handle(handled.clone(), request)))
        .register_snapstart_resource(Arc::new(Hook(app.clone(), "1")))
        .register_snapstart_resource(Arc::new(Hook(app.clone(), "2")))
        .run()
        .await
}
