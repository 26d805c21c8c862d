// Command ferretdb is the MongoDB of a machine that has none: FerretDB on SQLite files in one folder.
//
// It serves the MongoDB wire protocol on -listen and keeps its data in -data until SIGTERM or SIGINT.
// An insert is acknowledged after SQLite has synced it, so neither a killed process nor a power cut loses it.
package main

import (
	"context"
	"database/sql"
	"flag"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/FerretDB/FerretDB/build/version"
	"github.com/FerretDB/FerretDB/ferretdb"
	_ "modernc.org/sqlite" // the driver FerretDB uses, so that both share one set of file locks
)

func main() {
	listen := flag.String("listen", "127.0.0.1:27017", "address of the MongoDB wire protocol")
	data := flag.String("data", "", "folder of the SQLite files; must exist")
	flag.Parse()

	logger := slog.New(&lazy{out: slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})})
	slog.SetDefault(logger)

	// The heap is a few megabytes that each command fills anew: collect when it is fivefold, not double.
	debug.SetGCPercent(400)

	tellVersion()
	goFirst()

	if err := run(*listen, *data, logger); err != nil {
		fmt.Fprintln(os.Stderr, "ferretdb:", err)
		os.Exit(1)
	}
}

func run(listen, data string, logger *slog.Logger) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()

	folder, err := filepath.Abs(data)
	if err != nil {
		return err
	}

	// FerretDB appends its own busy_timeout and WAL pragmas to these.
	// synchronous(full) is SQLite's default, said aloud because the guarantee above rests on it. A page of 4 KiB holds
	// three of our documents; in pages of 16 KiB an insert takes a sixth less CPU. Files made before keep their pages.
	pragmas := url.Values{"_pragma": {"page_size(16384)", "synchronous(full)", "cache_size(-65536)"}}
	server, err := ferretdb.New(&ferretdb.Config{
		Listener:  ferretdb.ListenerConfig{TCP: listen},
		Handler:   "sqlite",
		SQLiteURL: "file:" + folder + "/?" + pragmas.Encode(),
		Logger:    logger,
	})
	if err != nil {
		return err
	}

	go keepIndexed(ctx, folder, logger)

	return server.Run(ctx)
}

// tellVersion has buildInfo name the FerretDB that is in this program; by itself it knows its version only as a program of
// its own, and says "unknown" here.
func tellVersion() {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return
	}
	for _, module := range build.Deps {
		if module.Path == "github.com/FerretDB/FerretDB" {
			version.Get().Version = module.Version
		}
	}
}

// goFirst has the kernel prefer this program where it may ask for that (root, or CAP_SYS_NICE); elsewhere nothing changes.
//
// A database of its own has a machine of its own. Here a flood's users and the service would take what it needs to keep up:
// under a thousand users a backlog of seconds, of tenths of a second with it. The kernel shares CPU among sessions
// (sched(7), autogroup), so nice by itself says nothing; in a session that is not ours alone we ask for nothing, and inside
// a control group of its own for CPU, as in a container, it is of no effect.
func goFirst() {
	if session, _, _ := syscall.RawSyscall(syscall.SYS_GETSID, 0, 0, 0); int(session) == os.Getpid() {
		_ = os.WriteFile("/proc/self/autogroup", []byte("-6"), 0) // without the right, or the file, it is as it was
	}
}

// lazy is a log handler that formats nothing before there is something to write.
//
// FerretDB hands every statement's arguments to Logger.With, at whatever level, and the standard handlers format them there
// and then: a quarter of an insert's CPU went into quoting documents for lines that nobody writes.
type lazy struct {
	out   slog.Handler
	build func(slog.Handler) slog.Handler // what With and WithGroup asked for, done when a record comes
}

func (h *lazy) Enabled(ctx context.Context, level slog.Level) bool { return h.out.Enabled(ctx, level) }

func (h *lazy) Handle(ctx context.Context, record slog.Record) error {
	if h.build != nil {
		return h.build(h.out).Handle(ctx, record)
	}
	return h.out.Handle(ctx, record)
}

func (h *lazy) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.then(func(out slog.Handler) slog.Handler { return out.WithAttrs(attrs) })
}

func (h *lazy) WithGroup(name string) slog.Handler {
	return h.then(func(out slog.Handler) slog.Handler { return out.WithGroup(name) })
}

func (h *lazy) then(step func(slog.Handler) slog.Handler) slog.Handler {
	before := h.build
	return &lazy{out: h.out, build: func(out slog.Handler) slog.Handler {
		if before != nil {
			out = before(out)
		}
		return step(out)
	}}
}

// keepIndexed gives the tables of every database file the index that FerretDB's queries can use, until ctx ends.
//
// FerretDB indexes _ferretdb_sjson->"_id" but asks for _ferretdb_sjson->'$._id'; SQLite sees two different
// expressions and scans the table for every find by _id. The files appear when their first collection does, and
// there is no hook to learn of it, hence the polling; a poll that finds nothing to do only reads the schema.
func keepIndexed(ctx context.Context, folder string, logger *slog.Logger) {
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()

	for {
		files, _ := filepath.Glob(filepath.Join(folder, "*.sqlite"))
		for _, file := range files {
			if err := indexTables(ctx, file); err != nil && ctx.Err() == nil {
				logger.Warn("could not index _id; the next attempt follows", "file", file, "error", err)
			}
		}

		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// indexTables replaces the unusable _id index of each table that still has it.
//
// The new index takes the old one's name and stays unique: FerretDB goes on reporting duplicates, and an insert
// pays for one index instead of two. The file is closed again, since FerretDB deletes it with its database.
func indexTables(ctx context.Context, file string) error {
	db, err := sql.Open("sqlite", "file:"+file+"?mode=rw&_pragma=busy_timeout(10000)")
	if err != nil {
		return err
	}
	defer db.Close() // rolls back what has not been committed

	rows, err := db.QueryContext(ctx, `SELECT tbl_name FROM sqlite_master
		WHERE type = 'index' AND name = tbl_name || '__id_' AND sql NOT LIKE '%$._id%'`)
	if err != nil {
		return err
	}
	defer rows.Close()

	var statements strings.Builder
	for rows.Next() {
		var table string
		if err = rows.Scan(&table); err != nil {
			return err
		}
		// In one transaction: no insert ever meets a table without a unique _id.
		fmt.Fprintf(&statements, `BEGIN IMMEDIATE; DROP INDEX %[2]q;
			CREATE UNIQUE INDEX %[2]q ON %[1]q (_ferretdb_sjson->'$._id'); COMMIT;`, table, table+"__id_")
	}
	if err = rows.Err(); err != nil || statements.Len() == 0 {
		return err
	}

	_, err = db.ExecContext(ctx, statements.String())

	return err
}
