package main

import (
	"fmt"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/upgrader/upgrader/upgrader"
)

// newLog makes the log on stderr.
func newLog(format, level string) (*zap.Logger, error) {
	var l zapcore.Level
	switch level {
	case "debug", "info", "warn", "error":
		if err := l.UnmarshalText([]byte(level)); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("--log-level %s: want debug, info, warn or error", level)
	}
	c := zap.NewProductionEncoderConfig()
	c.EncodeTime = zapcore.ISO8601TimeEncoder
	c.EncodeDuration = zapcore.StringDurationEncoder
	var e zapcore.Encoder
	switch format {
	case "json":
		e = zapcore.NewJSONEncoder(c)
	case "console":
		c.EncodeLevel = zapcore.CapitalLevelEncoder
		e = zapcore.NewConsoleEncoder(c)
	default:
		return nil, fmt.Errorf("--log-format %s: want console or json", format)
	}
	return zap.New(zapcore.NewCore(e, zapcore.Lock(os.Stderr), l)).Named("upgrader"), nil
}

// report writes what happened to the log.
func report(log *zap.Logger, e upgrader.Event) {
	level := zapcore.InfoLevel
	if e.Warning {
		level = zapcore.WarnLevel
	}
	if log.Core().Enabled(level) {
		fields := make([]zap.Field, 0, 5)
		if e.Generation != 0 {
			fields = append(fields, zap.Int("generation", e.Generation))
		}
		if e.Pid != 0 {
			fields = append(fields, zap.Int("pid", e.Pid))
		}
		if e.Message != "" {
			fields = append(fields, zap.String("message", e.Message))
		}
		if e.Took != 0 {
			fields = append(fields, zap.Duration("took", e.Took))
		}
		if e.Error != "" {
			fields = append(fields, zap.String("error", e.Error))
		}
		log.Check(level, e.What).Write(fields...)
	}
}
