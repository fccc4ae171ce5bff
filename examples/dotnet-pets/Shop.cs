using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Threading.Tasks;
using Amazon.Lambda.Core;

namespace Pets;

public record Pet(int Id, string Name, string Kind, int Age, decimal Price);

public record Query(string? Name, string? Kind);

public record Answer(Guid Order, int? Found, List<Pet>? First, Pet? Cheapest);

/// <summary>
/// A pet shop's search, with an initialisation that one would rather not wait for twice. With SnapStart it happens once,
/// when a version is published: every environment after that is thawed with all of it in memory.
/// </summary>
public class Shop
{
    private const int Count = 80_000, Seed = 2026; // the shop's stock is no secret, and the same everywhere
    private static readonly string[] First = ("Ada Bella Caspar Daisy Emil Freya Gus Hazel Ivo Juno Kiki Luna Milo Nala Otis " +
        "Poppy Quinn Rex Suki Tom").Split(' ');
    private static readonly string[] Second =
        "of-the-Hill the-Brave Whiskers Longtail the-Quiet Brightpaw Snow von-Bark Pepper the-Second".Split(' ');
    private static readonly (string Kind, int Age)[] Kinds = {
        ("dog", 15), ("cat", 12), ("parrot", 30), ("rabbit", 8), ("tortoise", 120), ("hamster", 3) };

    private readonly Pet[] pets = MakeCatalogue();
    private readonly Dictionary<string, Pet[]> byName; // cheapest first
    private readonly ILookup<string, Pet> byKind;

    public Shop()
    {
        long started = Stopwatch.GetTimestamp();
        Pet[] sorted = pets.OrderBy(pet => pet.Price).ThenBy(pet => pet.Id).ToArray();
        byName = sorted.GroupBy(pet => pet.Name, StringComparer.OrdinalIgnoreCase)
            .ToDictionary(group => group.Key, group => group.ToArray(), StringComparer.OrdinalIgnoreCase);
        byKind = sorted.ToLookup(pet => pet.Kind);
        Console.WriteLine($"indexed {pets.Length} pets in {Stopwatch.GetElapsedTime(started).TotalSeconds:F2} s");
        // What runs before the snapshot is loaded and compiled in every clone.
        SnapshotRestore.RegisterBeforeSnapshot(() => {
            Search(new Query("rex the-brave", "parrot"));
            return ValueTask.CompletedTask;
        });
    }

    private static Pet[] MakeCatalogue()
    {
        var chooser = new Random(Seed);
        return Enumerable.Range(0, Count).Select(id => {
            var (kind, age) = Kinds[chooser.Next(Kinds.Length)];
            string name = First[chooser.Next(First.Length)] + " " + Second[chooser.Next(Second.Length)];
            return new Pet(id, name, kind, chooser.Next(age), chooser.Next(1000, 50000) / 100m);
        }).ToArray();
    }

    private Answer Search(Query query)
    {
        Pet[]? named = query.Name == null ? null : byName.GetValueOrDefault(query.Name, Array.Empty<Pet>());
        return new Answer(Guid.NewGuid(), // unique in every environment, thawed or not
            named?.Length, named?.Take(3).ToList(), query.Kind == null ? null : byKind[query.Kind].FirstOrDefault());
    }

    public Answer Handle(Query query, ILambdaContext context)
    {
        context.Logger.LogInformation("looking for {name} or a {kind}", query.Name ?? "anybody", query.Kind ?? "pet");
        return Search(query);
    }
}
