// Command natsgo is the Go peer of the benchmarks: the JetStream client of nats.go with its
// defaults, driven line by line from the standard input so that rounds can alternate.
//
//	publish SUBJECT_PREFIX KEYS COUNT BYTES   asynchronous publishes, all acknowledged
//	put BUCKET NAME BYTES                     an object from memory
//	get BUCKET NAME                           an object, read to its end
//
// Each line is answered by one line: seconds, or "error" and why.
package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// readBytes is what one read of an object asks for, as for the other peers.
const readBytes = 128 * 1024

// ackWait bounds the wait for the last acknowledgements.
const ackWait = time.Minute

func main() {
	if err := serve(os.Args[1]); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

func serve(url string) error {
	connection, err := nats.Connect(url)
	if err != nil {
		return err
	}
	defer connection.Close()
	js, err := jetstream.New(connection)
	if err != nil {
		return err
	}
	fmt.Println("nats.go", nats.Version)
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		answer, err := run(js, strings.Fields(lines.Text()))
		if err != nil {
			fmt.Println("error", err)
		} else {
			fmt.Println(answer)
		}
	}
	return lines.Err()
}

func run(js jetstream.JetStream, words []string) (string, error) {
	switch {
	case len(words) == 5 && words[0] == "publish":
		var keys, count, size int
		if _, err := fmt.Sscan(strings.Join(words[2:], " "), &keys, &count, &size); err != nil {
			return "", err
		}
		return publish(js, words[1], keys, count, size)
	case len(words) == 4 && words[0] == "put":
		var size int
		if _, err := fmt.Sscan(words[3], &size); err != nil {
			return "", err
		}
		return put(js, words[1], words[2], size)
	case len(words) == 3 && words[0] == "get":
		return get(js, words[1], words[2])
	}
	return "", fmt.Errorf("there is no command %q", words)
}

func publish(js jetstream.JetStream, prefix string, keys, count, size int) (string, error) {
	subjects := make([]string, keys)
	for i := range subjects {
		subjects[i] = fmt.Sprintf("%s%05d", prefix, i)
	}
	value := bytes.Repeat([]byte("v"), size)
	acks := make([]jetstream.PubAckFuture, 0, count)
	begin := time.Now()
	for i := range count {
		ack, err := js.PublishAsync(subjects[i%keys], value)
		if err != nil {
			return "", err
		}
		acks = append(acks, ack)
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(ackWait):
		return "", fmt.Errorf("not acknowledged: %d", js.PublishAsyncPending())
	}
	seconds := time.Since(begin).Seconds()
	for _, ack := range acks {
		select {
		case <-ack.Ok():
		case err := <-ack.Err():
			return "", err
		}
	}
	return fmt.Sprint(seconds), nil
}

// body is made once, so that no put pays for it.
var body []byte

func put(js jetstream.JetStream, bucket, name string, size int) (string, error) {
	ctx := context.Background()
	store, err := js.ObjectStore(ctx, bucket)
	if err != nil {
		return "", err
	}
	if len(body) != size {
		body = make([]byte, size)
		state := uint64(1)
		for i := range body {
			state = state*6364136223846793005 + 1442695040888963407
			body[i] = byte(state >> 56)
		}
	}
	begin := time.Now()
	if _, err := store.Put(ctx, jetstream.ObjectMeta{Name: name}, bytes.NewReader(body)); err != nil {
		return "", err
	}
	return fmt.Sprint(time.Since(begin).Seconds()), nil
}

func get(js jetstream.JetStream, bucket, name string) (string, error) {
	ctx := context.Background()
	store, err := js.ObjectStore(ctx, bucket)
	if err != nil {
		return "", err
	}
	buffer := make([]byte, readBytes)
	begin := time.Now()
	object, err := store.Get(ctx, name)
	if err != nil {
		return "", err
	}
	for {
		if _, err := object.Read(buffer); err == io.EOF {
			break
		} else if err != nil {
			return "", err
		}
	}
	seconds := time.Since(begin).Seconds()
	return fmt.Sprint(seconds), object.Close()
}
