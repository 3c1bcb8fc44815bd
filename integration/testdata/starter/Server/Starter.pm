package Server::Starter;

# Stands in the place of Server::Starter for its own test suite: what the tests ask of the module is asked of the command
# line of the program that START_SERVER names.

use strict;
use warnings;
use Exporter qw(import);

our $VERSION   = '0.35';
our @EXPORT_OK = qw(start_server restart_server stop_server);

sub arguments {
    my %opts = @_;
    my $exec = delete $opts{exec};
    $opts{log_file} = '/dev/null' if $opts{daemonize} && !defined $opts{log_file}; # the module does without
    my @arguments;
    for my $key (sort keys %opts) {
        (my $flag = "--$key") =~ tr/_/-/;
        for my $value (ref $opts{$key} ? @{ $opts{$key} } : ($opts{$key})) {
            next unless defined $value;
            if ($key =~ /^(?:enable_auto_restart|daemonize|restart|stop)$/) {
                push @arguments, $flag if $value;
            } else {
                push @arguments, "$flag=$value";
            }
        }
    }
    return $exec ? (@arguments, '--', @$exec) : @arguments;
}

sub start_server {
    exec($ENV{START_SERVER}, arguments(@_)) or die "$ENV{START_SERVER}: $!";
}

sub restart_server { return command(@_, restart => 1) }
sub stop_server    { return command(@_, stop    => 1) }

sub command {
    my %opts = @_;
    delete $opts{port};
    system($ENV{START_SERVER}, arguments(%opts)) == 0 or die "$ENV{START_SERVER}: status $?";
}

1;
