//! The reactor by itself: tasks, wakers from other threads, timers, sockets.

use std::cell::RefCell;
use std::future::Future;
use std::net::TcpListener as StdListener;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::*;

/// Runs a future on a reactor of its own thread and gives its result.
fn on_reactor<T: Send + 'static, F: Future<Output = T> + 'static>(
    make: impl FnOnce() -> F + Send + 'static,
) -> T {
    std::thread::spawn(move || {
        let result = Rc::new(RefCell::new(None));
        let place = result.clone();
        let future = make();
        run(async move {
            let output = future.await;
            *place.borrow_mut() = Some(output);
        })
        .unwrap();
        result.take().unwrap()
    })
    .join()
    .unwrap()
}

fn pair() -> (OwnedFd, std::net::TcpStream) {
    let listener = StdListener::bind("127.0.0.1:0").unwrap();
    let other = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, _) = listener.accept().unwrap();
    stream.set_nonblocking(true).unwrap();
    (stream.into(), other)
}

#[test]
fn other_threads_wake_tasks() {
    let sum = on_reactor(|| async {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let thread = std::thread::spawn(move || {
            for number in 0..1000_u32 {
                sender.send(number).unwrap();
                if number % 100 == 0 {
                    std::thread::yield_now();
                }
            }
        });
        let mut sum = 0;
        while let Some(number) = receiver.recv().await {
            sum += number;
        }
        thread.join().unwrap();
        sum
    });
    assert_eq!(sum, 499_500);
}

#[test]
fn timers_end_in_order_and_not_early() {
    let order = on_reactor(|| async {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        let begin = Instant::now();
        for delay in [30_u64, 10, 20] {
            let sender = sender.clone();
            spawn(async move {
                sleep(Duration::from_millis(delay)).await;
                assert!(begin.elapsed() >= Duration::from_millis(delay));
                sender.send(delay).unwrap();
            });
        }
        drop(sender);
        let mut order = Vec::new();
        while let Some(delay) = receiver.recv().await {
            order.push(delay);
        }
        order
    });
    assert_eq!(order, [10, 20, 30]);
}

#[test]
fn a_timeout_gives_up_or_gives_the_result() {
    let results = on_reactor(|| async {
        let late = timeout(Some(Duration::from_millis(5)), std::future::pending::<()>()).await;
        let soon = timeout(Some(Duration::from_secs(60)), async { 7 }).await;
        let mut moved = sleep(Duration::from_secs(60));
        moved.reset(now() + Duration::from_millis(5));
        moved.await;
        (late, soon)
    });
    assert_eq!(results, (None, Some(7)));
}

#[test]
fn a_panic_ends_only_its_task() {
    let survived = on_reactor(|| async {
        spawn(async { panic!("this one on purpose") });
        sleep(Duration::from_millis(5)).await;
        true
    });
    assert!(survived);
}

#[test]
fn a_stream_reads_what_comes_and_sees_the_end() {
    let (fd, mut other) = pair();
    let text = on_reactor(move || async move {
        let mut stream = Stream::new(fd, false);
        let writer = std::thread::spawn(move || {
            use std::io::Write;
            for _ in 0..50 {
                other.write_all(b"0123456789").unwrap();
                std::thread::yield_now();
            }
        });
        let mut text = Vec::new();
        let mut buffer = [0; 7];
        loop {
            match std::future::poll_fn(|context| stream.poll_recv(context, &mut buffer)).await.unwrap() {
                0 => break,
                count => text.extend_from_slice(&buffer[..count]),
            }
        }
        writer.join().unwrap();
        text
    });
    assert_eq!(text, b"0123456789".repeat(50));
}

#[test]
fn a_look_takes_nothing_and_waits_for_more() {
    let (fd, mut other) = pair();
    let seen = on_reactor(move || async move {
        use std::io::Write;
        let mut stream = Stream::new(fd, false);
        other.write_all(b"one").unwrap();
        let mut buffer = [0; 16];
        let first = std::future::poll_fn(|context| stream.poll_peek(context, &mut buffer, 0)).await.unwrap();
        let waiting = std::future::poll_fn(|context| stream.poll_peek(context, &mut buffer, first));
        assert!(timeout(Some(Duration::from_millis(5)), waiting).await.is_none());
        other.write_all(b"two").unwrap();
        let more =
            std::future::poll_fn(|context| stream.poll_peek(context, &mut buffer, first)).await.unwrap();
        drop(other);
        let end = std::future::poll_fn(|context| stream.poll_peek(context, &mut buffer, more)).await.unwrap();
        (first, more, end)
    });
    assert_eq!(seen, (3, 6, 6));
}

#[test]
fn a_refused_connection_is_an_error() {
    let gone = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let kind = on_reactor(move || async move {
        let flags = rustix::net::SocketFlags::NONBLOCK | rustix::net::SocketFlags::CLOEXEC;
        let (family, kind) = (rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM);
        let socket = rustix::net::socket_with(family, kind, flags, None).unwrap();
        if let Err(error) = rustix::net::connect(&socket, &gone)
            && error != rustix::io::Errno::INPROGRESS
        {
            return io::Error::from(error).kind();
        }
        Stream::connecting(socket, true).connected().await.unwrap_err().kind()
    });
    assert_eq!(kind, io::ErrorKind::ConnectionRefused);
}

#[test]
fn what_still_runs_at_the_end_is_dropped() {
    struct Told(std::sync::mpsc::Sender<()>);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
        }
    }
    let (sender, receiver) = std::sync::mpsc::channel();
    on_reactor(move || async move {
        let told = Told(sender);
        spawn(async move {
            let _told = told;
            sleep(Duration::from_secs(3600)).await;
        });
        yield_now().await;
    });
    receiver.try_recv().unwrap();
}
