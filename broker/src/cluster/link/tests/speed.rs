//! What a frame costs. Not a test: `cargo test -p broker -- --ignored --nocapture link_speed`.

use super::*;

/// Counts what comes.
#[derive(Default)]
struct Count(AtomicUsize);

impl Handler for Count {
    fn on_frame(&self, _from: NodeId, _session: Session, payload: Bytes) {
        self.0.fetch_add(payload.len(), Ordering::Relaxed);
    }

    fn on_call(&self, _caller: Caller, payload: Bytes) -> BoxFuture<'static, Result<Bytes, String>> {
        Box::pin(async move { Ok(payload) })
    }
}

/// Seconds of processor that this process has used.
fn used() -> f64 {
    let usage = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_SELF).unwrap();
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    seconds(usage.user_time()) + seconds(usage.system_time())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "measures, and takes some seconds"]
async fn link_speed() {
    let (a, b) = pair().await;
    let count = Arc::new(Count::default());
    for kind in [Kind::Forward, Kind::Beat] {
        let handler: Arc<dyn Handler> = Arc::<Count>::clone(&count);
        b.links.handle(kind, handler);
    }
    for (octets, frames) in [(256, 1_000_000), (4096, 200_000), (65_536, 20_000), (4 << 20, 500)] {
        let payload = Bytes::from(vec![1; octets]);
        let (began, cpu) = (Instant::now(), used());
        let before = count.0.load(Ordering::Relaxed);
        for at in 0..frames {
            while a.links.send(b.id, Lane::Data, Kind::Forward, payload.clone()).is_err() {
                tokio::time::sleep(Duration::from_micros(200)).await;
            }
            // As a connection's task does between its reads.
            if at % 64 == 63 {
                tokio::task::yield_now().await;
            }
        }
        until("all are there", || count.0.load(Ordering::Relaxed) - before == frames * octets).await;
        let (seconds, cpu) = (began.elapsed().as_secs_f64(), used() - cpu);
        println!(
            "{octets:>8} octets: {:>9.0} frames/s, {:>6.0} MB/s, {:.2} CPU-s per million frames (both sides)",
            frames as f64 / seconds,
            (frames * octets) as f64 / seconds / 1e6,
            cpu / frames as f64 * 1e6,
        );
    }
    let (began, calls) = (Instant::now(), 5000);
    for _ in 0..calls {
        a.links.call(b.id, Lane::Control, Kind::Beat, Bytes::new(), PATIENCE).await.unwrap();
    }
    println!("one call: {:.0} us", began.elapsed().as_secs_f64() / f64::from(calls) * 1e6);
}
