package shmbridge

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// markBegin begins a mark; without a number after it, as here, it is none.
const markBegin = "upgrader-schema:"

// markLimit bounds the length of what stands between a mark's begin and its semicolon.
const markLimit = 256

// Mark returns the text upgrader-schema:N; or upgrader-schema:N,M; by which a program declares the schema it writes, and
// then those that it can also read. The text must lie in the program's file: a Go program has it as a literal that it
// uses (MarkOf), a C program by UPGRADER_SCHEMA(N), a script as a comment.
func Mark(schema uint64, more ...uint64) string {
	text := markBegin + strconv.FormatUint(schema, 10)
	for _, n := range more {
		text += "," + strconv.FormatUint(n, 10)
	}
	return text + ";"
}

// MarkOf returns the numbers of a mark, its own first. Errors match ErrSchema.
func MarkOf(mark string) ([]uint64, error) {
	list, ok := strings.CutPrefix(mark, markBegin)
	if ok {
		list, ok = strings.CutSuffix(list, ";")
	}
	if ok {
		if numbers, ok := markNumbers(list); ok {
			return numbers, nil
		}
	}
	return nil, fmt.Errorf("shmbridge: %w: %q is no mark such as %q", ErrSchema, mark, Mark(1))
}

func markNumbers(list string) ([]uint64, bool) {
	var numbers []uint64
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64) // of unsigned numbers it takes no sign
		if err != nil || n == 0 {
			return nil, false
		}
		numbers = append(numbers, n)
	}
	return numbers, true
}

// Schemas returns all the numbers that the marks in a program's file declare, in order of appearance; none is no error.
// It reads the file through once, and moves no offset.
func Schemas(program io.ReaderAt) ([]uint64, error) {
	const chunk = 1 << 20
	begin := []byte(markBegin)
	keep := len(begin) + markLimit
	buffer := make([]byte, 0, chunk+keep)
	r := io.NewSectionReader(program, 0, math.MaxInt64)
	var numbers []uint64
	for {
		n, err := io.ReadFull(r, buffer[len(buffer):len(buffer)+chunk])
		buffer = buffer[:len(buffer)+n]
		last := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !last {
			return nil, fmt.Errorf("shmbridge: look for schema marks: %w", err)
		}
		rest := buffer
		for {
			at := bytes.Index(rest, begin)
			if at < 0 || !last && at > len(rest)-keep {
				break // the rest of it comes with the next chunk
			}
			rest = rest[at+len(begin):]
			list, _, ended := bytes.Cut(rest[:min(len(rest), markLimit)], []byte{';'})
			if found, ok := markNumbers(string(list)); ended && ok {
				for _, n := range found {
					if !slices.Contains(numbers, n) {
						numbers = append(numbers, n)
					}
				}
			}
		}
		if last {
			return numbers, nil
		}
		kept := copy(buffer[:keep], rest[max(0, len(rest)-keep):])
		buffer = buffer[:kept]
	}
}

// Compatible tells whether a program that declares these schemas takes bytes of the current one (0: not known, so any),
// by an error that matches ErrSchema.
func Compatible(current uint64, declared []uint64) error {
	if current == 0 || slices.Contains(declared, current) {
		return nil
	}
	if len(declared) == 0 {
		return fmt.Errorf("shmbridge: the segment is in schema %d: %w: the successor declares none", current, ErrSchema)
	}
	return fmt.Errorf("shmbridge: the segment is in schema %d: %w: the successor declares %v", current, ErrSchema, declared)
}
