// A stream processor between HTTP and Kafka, as somebody would build a postback gateway of it: the engine of
// Redpanda Connect, with its HTTP input and nothing but what that takes. The engine's repository has no Kafka
// output; this one uses the client that Redpanda Connect's own uses.
package main

import (
	"context"
	"sync"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
	"github.com/twmb/franz-go/pkg/kgo"
)

type output struct {
	options []kgo.Opt
	client  *kgo.Client
}

func (o *output) Connect(ctx context.Context) error {
	if o.client != nil {
		return nil
	}
	client, err := kgo.NewClient(o.options...)
	if err != nil {
		return err
	}
	if err := client.Ping(ctx); err != nil {
		client.Close()
		return err
	}
	o.client = client
	return nil
}

// Write returns when all in-sync replicas have the message, so the HTTP input answers then.
func (o *output) Write(ctx context.Context, message *service.Message) error {
	value, err := message.AsBytes()
	if err != nil {
		return err
	}
	key, _ := message.MetaGet("clickid")
	var (
		wait   sync.WaitGroup
		failed error
	)
	wait.Add(1)
	o.client.Produce(ctx, &kgo.Record{Key: []byte(key), Value: value}, func(_ *kgo.Record, err error) {
		failed = err
		wait.Done()
	})
	wait.Wait()
	return failed
}

func (o *output) Close(context.Context) error {
	if o.client != nil {
		o.client.Close()
	}
	return nil
}

func main() {
	spec := service.NewConfigSpec().
		Field(service.NewStringListField("seed_brokers")).
		Field(service.NewStringField("topic")).
		Field(service.NewOutputMaxInFlightField())
	err := service.RegisterOutput("kafka_acked", spec,
		func(config *service.ParsedConfig, _ *service.Resources) (service.Output, int, error) {
			brokers, err := config.FieldStringList("seed_brokers")
			if err != nil {
				return nil, 0, err
			}
			topic, err := config.FieldString("topic")
			if err != nil {
				return nil, 0, err
			}
			most, err := config.FieldMaxInFlight()
			if err != nil {
				return nil, 0, err
			}
			return &output{options: []kgo.Opt{
				kgo.SeedBrokers(brokers...),
				kgo.DefaultProduceTopic(topic),
				// idempotent and acknowledged by all in-sync replicas, as is its default
				kgo.RequiredAcks(kgo.AllISRAcks()),
				kgo.ProducerLinger(0),
			}}, most, nil
		})
	if err != nil {
		panic(err)
	}
	service.RunCLI(context.Background())
}
