"""
A queue, half of it double bounces: counting them beside grep, deleting them beside qmHandle's and qmqtool's way.

Both tools are Perl and go about it alike: a first pass lists info/, local/, remote/, mess/ and bounce/ into a hash by
name and opens each info file for its sender; a second one unlinks bounce, mess, info, remote and local of every message
that matched, by full path, in the order of the hash: qmHandle in lists of eleven messages, qmqtool one by one. UNLINK
below is that, written for this benchmark, without the tools' own stopping of qmail-send, their output, and the read of
each message's headers for the list. The row "the loop alone" gives that loop the numbers for nothing, from a list.

    python benchmarks/bench_queue.py --messages 100000 --rounds 5
"""

import os

import beside

FIND = r"""
    my %has;
    for my $kind (qw(info local remote)) {
        for my $split (0 .. 22) {
            opendir(my $dir, "$queue/$kind/$split") or die;
            $has{"$split/$_"}{$kind} = 1 for grep { !/\./ } readdir $dir;
        }
    }
    opendir(my $dir, "$queue/bounce") or die;
    my %bounced = map { $_ => 1 } grep { !/\./ } readdir $dir;
    for my $message (keys %has) {
        next unless $has{$message}{info};
        open(my $info, "<", "$queue/info/$message") or next;
        my $sender = <$info>;
        push @matched, $message if $sender eq "F#@[]\0";
    }
    $local = sub { $has{$_[0]}{local} };
    $remote = sub { $has{$_[0]}{remote} };
    $bounce = sub { $bounced{(split /\//, $_[0])[1]} };
"""

LISTED = r"""
    open(my $list, "<", "$queue/list") or die;
    chomp(@matched = <$list>);
    $local = sub { 1 };
    $remote = $bounce = sub { 0 };
"""

UNLINK = r"""
    use strict;
    my $queue = shift;
    my (@matched, $local, $remote, $bounce);
    FIND
    my @files;
    for my $message (@matched) {
        my $number = (split /\//, $message)[1];
        push @files, "$queue/bounce/$number" if $bounce->($message);
        push @files, "$queue/mess/$message", "$queue/info/$message";
        push @files, "$queue/remote/$message" if $remote->($message);
        push @files, "$queue/local/$message" if $local->($message);
        if (@files > 30) { unlink @files; @files = (); }
    }
    unlink @files;
"""


def make(path, messages):
    """Make a queue with that many messages; every second one is a double bounce. Each gets its inode for a number."""
    for kind in ("mess", "info", "local", "remote"):
        for split in range(23):
            os.makedirs(f"{path}/{kind}/{split}")
    for kind in ("bounce", "todo", "intd", "pid", "lock"):
        os.makedirs(f"{path}/{kind}")
    write(f"{path}/lock/sendmutex", b"")
    text = beside.double_bounce()
    double = []
    for count in range(messages):
        number = write(f"{path}/pid/{count}", text)
        name = f"{number % 23}/{number}"
        os.rename(f"{path}/pid/{count}", f"{path}/mess/{name}")
        if count % 2:
            write(f"{path}/info/{name}", b"Fuser%d@example.com\0" % count)
            write(f"{path}/remote/{name}", b"Tsomebody@example.org\0")
        else:
            write(f"{path}/info/{name}", b"F#@[]\0")
            write(f"{path}/local/{name}", b"Tdoublebounce@example.com\0")
            double.append(name)
    write(f"{path}/list", "\n".join(double).encode())
    return [path]


def write(path, contents):
    """Write a file and return its inode."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(fd, contents)
    inode = os.fstat(fd).st_ino
    os.close(fd)
    return inode


def main():
    options = beside.arguments(__doc__)
    with beside.Place(dir=options.directory) as place:
        loaded = beside.modules()
        queue = place / "queue"

        def summary(path):
            assert loaded["qmail_queue.summary"](str(path))["double_bounces"]

        def grep(path):
            assert int(beside.shell("grep -rlF '#@[]' \"$1/info\" | wc -l", path))

        def remove(path):
            assert loaded["qmail_queue.remove"](str(path), home=str(place))["deleted"]

        def perl(find):
            program = UNLINK.replace("FIND", find)
            return lambda path: beside.shell('perl -e "$1" "$2"', program, path)

        def fresh(messages=options.messages):
            return make(beside.emptied(queue), messages)

        # Once before the clock runs: Salt loads its modules at their first call.
        remove(*fresh(100))
        if options.growth:
            beside.growth("summary", options.rounds, summary, fresh)
            beside.growth("remove", options.rounds, remove, fresh)
            return
        size = f"{options.messages} messages"
        fresh()
        beside.beside(f"summary of {size}", options.rounds, summary, {"grep": (grep, 1.3)}, lambda: [queue])
        others = {"qmHandle's way": (perl(FIND), 1), "the loop alone": (perl(LISTED), 1)}
        beside.beside(f"remove {options.messages // 2} of {size}", options.rounds, remove, others, fresh)


if __name__ == "__main__":
    main()
