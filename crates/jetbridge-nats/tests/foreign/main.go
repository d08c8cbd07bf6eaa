// Command foreign is another NATS client, for tests to meet: it does what it is told over nats.go.
//
// Its argument is a server's URL. Each line of its input is a JSON request, each line of its
// output the answer: a result, or an error in words. Bytes are base64.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// How long one request may take: the tests' servers are on this machine.
const patience = 20 * time.Second

// request holds the arguments of every operation; each takes what it needs.
type request struct {
	Op          string              `json:"op"`
	Bucket      string              `json:"bucket"`
	Key         string              `json:"key"`
	Name        string              `json:"name"`
	Value       []byte              `json:"value"`
	Revision    uint64              `json:"revision"`
	TTL         int64               `json:"ttl_ms"`
	MarkerTTL   int64               `json:"marker_ttl_ms"`
	History     uint8               `json:"history"`
	MaxBytes    int64               `json:"max_bytes"`
	MaxValue    int32               `json:"max_value_bytes"`
	Description string              `json:"description"`
	Memory      bool                `json:"memory"`
	Compression bool                `json:"compression"`
	Metadata    map[string]string   `json:"metadata"`
	Update      bool                `json:"update"`
	Headers     map[string][]string `json:"headers"`
	ChunkBytes  uint32              `json:"chunk_bytes"`
	ToBucket    string              `json:"to_bucket"`
	Stream      string              `json:"stream"`
	Subject     string              `json:"subject"`
	Subjects    []string            `json:"subjects"`
	Direct      bool                `json:"direct"`
	HeadersOnly bool                `json:"headers_only"`
	ID          string              `json:"id"`
	Durable     string              `json:"durable"`
	Count       int                 `json:"count"`
}

// client is the connection, and the watches that were begun.
type client struct {
	conn    *nats.Conn
	js      jetstream.JetStream
	keys    jetstream.KeyWatcher
	objects jetstream.ObjectWatcher
}

type operation func(*client, context.Context, request) (any, error)

var operations = map[string]operation{
	"bucket":        (*client).bucket,
	"bucket_status": (*client).bucketStatus,
	"kv_put":        (*client).kvPut,
	"kv_create":     (*client).kvCreate,
	"kv_update":     (*client).kvUpdate,
	"kv_get":        (*client).kvGet,
	"kv_delete":     (*client).kvDelete,
	"kv_purge":      (*client).kvPurge,
	"kv_keys":       (*client).kvKeys,
	"kv_history":    (*client).kvHistory,
	"kv_watch":      (*client).kvWatch,
	"kv_next":       (*client).kvNext,

	"object_bucket":        (*client).objectBucket,
	"object_bucket_status": (*client).objectBucketStatus,
	"object_put":           (*client).objectPut,
	"object_get":           (*client).objectGet,
	"object_info":          (*client).objectInfo,
	"object_delete":        (*client).objectDelete,
	"object_list":          (*client).objectList,
	"object_link":          (*client).objectLink,
	"object_link_bucket":   (*client).objectLinkBucket,
	"object_seal":          (*client).objectSeal,
	"object_watch":         (*client).objectWatch,
	"object_next":          (*client).objectNext,

	"stream":          (*client).stream,
	"stream_status":   (*client).streamStatus,
	"consumer":        (*client).consumer,
	"consumer_status": (*client).consumerStatus,
	"append":          (*client).append,
	"fetch":           (*client).fetch,
	"publish":         (*client).publish,
	"ask":             (*client).ask,
	"answer":          (*client).answer,
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "foreign:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return fmt.Errorf("usage: foreign URL")
	}
	conn, err := nats.Connect(os.Args[1])
	if err != nil {
		return err
	}
	defer conn.Close()
	js, err := jetstream.New(conn)
	if err != nil {
		return err
	}
	c := &client{conn: conn, js: js}
	answers := json.NewEncoder(os.Stdout)
	requests := json.NewDecoder(bufio.NewReader(os.Stdin))
	for requests.More() {
		var r request
		if err := requests.Decode(&r); err != nil {
			return err
		}
		if err := answers.Encode(c.do(r)); err != nil {
			return err
		}
	}
	return nil
}

func (c *client) do(r request) any {
	do, known := operations[r.Op]
	if !known {
		return failure(fmt.Errorf("no operation is called %q", r.Op))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	result, err := do(c, ctx, r)
	if err != nil {
		return failure(err)
	}
	return map[string]any{"ok": result}
}

func failure(err error) any {
	return map[string]string{"error": err.Error()}
}

func ms(count int64) time.Duration {
	return time.Duration(count) * time.Millisecond
}

func storage(memory bool) jetstream.StorageType {
	if memory {
		return jetstream.MemoryStorage
	}
	return jetstream.FileStorage
}
