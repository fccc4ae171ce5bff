// The function of the official clients' tests, for aws-lambda-go: see tests/clients/README.md for what it answers.
package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log"
	"os"
	"runtime"
	"sort"
	"sync/atomic"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type Event struct {
	Do     string `json:"do,omitempty"`
	Log    string `json:"log,omitempty"`
	HoldMs int    `json:"hold_ms,omitempty"`
	Text   string `json:"text,omitempty"`
}

type Answer struct {
	Event     Event    `json:"event"`
	Born      string   `json:"born"`
	Clone     string   `json:"clone"`
	Count     int      `json:"count"`
	Hooks     []string `json:"hooks"`
	Threads   bool     `json:"threads"`
	Request   string   `json:"request"`
	Arn       string   `json:"arn"`
	Remaining int64    `json:"remaining"`
}

const servers = 8

var (
	born     = draw()
	clone    string
	count    int
	ticks    int64
	spun     int64
	worked   int64
	asked    = make(chan int)
	answered = make(chan int)
)

func draw() string {
	bytes := make([]byte, 16)
	if _, err := rand.Read(bytes); err != nil {
		panic(err)
	}
	return hex.EncodeToString(bytes)
}

// serve answers from a thread of its own, as its goroutine stays on it.
func serve() {
	runtime.LockOSThread()
	for n := range asked {
		answered <- n * n
	}
}

// work is in the middle of something whenever it is looked at.
func work() {
	for {
		for i := 0; i < 20; i++ {
			words := make([]string, 0)
			for n := 0; n < 500; n++ {
				words = append(words, fmt.Sprint(n))
			}
			sort.Strings(words)
		}
		atomic.AddInt64(&worked, 1)
		time.Sleep(time.Millisecond)
	}
}

// threadsWork uses those threads, a ticker, the collector, and the signal by which it stops a loop that never yields.
func threadsWork() bool {
	before := atomic.LoadInt64(&ticks)
	enough := int64(0)
	if os.Getenv("BUSY") != "" {
		enough = atomic.LoadInt64(&worked) + 3
	}
	sum := 0
	for n := 1; n <= servers; n++ {
		asked <- n
		sum += <-answered
	}
	var done int32
	go func() {
		for atomic.LoadInt32(&done) == 0 {
			spun++
		}
	}()
	time.Sleep(time.Millisecond)
	runtime.GC()
	atomic.StoreInt32(&done, 1)
	for atomic.LoadInt64(&ticks) < before+3 || atomic.LoadInt64(&worked) < enough {
		time.Sleep(time.Millisecond)
	}
	return sum == 204
}

func handle(ctx context.Context, event Event) (*Answer, error) {
	if clone == "" {
		clone = draw()
	}
	count++
	switch event.Do {
	case "fail":
		return nil, errors.New("it failed")
	case "panic":
		panic("it panicked")
	case "exit":
		os.Exit(7)
	}
	if event.Log != "" {
		log.Printf("logged: %s", event.Log)
	}
	time.Sleep(time.Duration(event.HoldMs) * time.Millisecond)
	lc, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	return &Answer{event, born, clone, count, []string{}, threadsWork(), lc.AwsRequestID, lc.InvokedFunctionArn,
		time.Until(deadline).Milliseconds()}, nil
}

func main() {
	go func() {
		for range time.Tick(time.Millisecond) {
			atomic.AddInt64(&ticks, 1)
		}
	}()
	for i := 0; i < servers; i++ {
		go serve()
	}
	for i := 0; i < 4 && os.Getenv("BUSY") != ""; i++ {
		go work()
	}
	lambda.Start(handle)
}
